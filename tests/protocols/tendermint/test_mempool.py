"""What waits for a block: once, checked, within limits that no other node can take up alone, in order."""

import msgspec
import pytest

from quorate.ledger.comet.abci.response_messages import ResponseCheckTx
from quorate.protocols.tendermint.app_messages import TX_BYTES_MAX, Transactions
from quorate.protocols.tendermint.mempool import CLIENTS, IN_CACHE, Mempool

OK = ResponseCheckTx()
ROOM = 1 << 20


def pool(count_max: int = 100, bytes_max: int = ROOM, cache_max: int = 10) -> Mempool:
    return Mempool(count_max, bytes_max, 4, cache_max)


def filled(*txs: bytes, gas: int = 0, **limits: int) -> Mempool:
    made = pool(**limits)
    for tx in txs:
        assert made.take_in(tx, CLIENTS, ROOM) == ""
        assert made.checked(tx, ResponseCheckTx(gas_wanted=gas), -1) == ""
    return made


def first(mempool: Mempool, bytes_max: int = ROOM, gas_max: int = -1, count_max: int = 99, wanted: int = ROOM) -> str:
    return b" ".join(mempool.first(bytes_max, gas_max, count_max, wanted)).decode()


def test_in_the_order_in_which_they_came_and_only_checked_ones() -> None:
    made = filled(b"b", b"a")
    assert made.take_in(b"c", CLIENTS, ROOM) == ""
    assert (first(made), len(made), made.txs) == ("b a", 2, (b"b", b"a"))


def test_once() -> None:
    made = filled(b"a")
    assert made.take_in(b"a", 1, ROOM) == IN_CACHE
    made.decided([b"a"], [True])
    assert (len(made), made.bytes) == (0, 0)
    assert made.take_in(b"a", CLIENTS, ROOM) == IN_CACHE


def test_what_failed_in_a_block_or_was_refused_may_come_again() -> None:
    made = filled(b"a")
    made.decided([b"a"], [False])
    assert made.take_in(b"a", CLIENTS, ROOM) == ""
    assert made.checked(b"a", ResponseCheckTx(3), -1) == "the app refused it with code 3"
    assert made.take_in(b"a", CLIENTS, ROOM) == ""


def test_the_cache_forgets_the_oldest() -> None:
    made = pool(cache_max=2)
    made.decided([b"a", b"b", b"c"], [True] * 3)
    assert made.take_in(b"a", CLIENTS, ROOM) == ""
    assert made.take_in(b"b", CLIENTS, ROOM) == IN_CACHE


def test_one_that_was_decided_while_it_was_checked() -> None:
    made = pool()
    made.take_in(b"a", CLIENTS, ROOM)
    made.decided([b"a"], [True])
    assert made.checked(b"a", OK, -1) == "it was in a block meanwhile"
    assert len(made) == 0


def test_gas_of_one_and_of_a_block() -> None:
    made = pool()
    made.take_in(b"a", CLIENTS, ROOM)
    assert made.checked(b"a", ResponseCheckTx(gas_wanted=8), 7) == "it wants 8 gas, and blocks have 7"
    made = filled(b"a", b"b", b"c", gas=3)
    assert [first(made, gas_max=gas) for gas in (-1, 9, 8, 2)] == ["a b c", "a b c", "a b", ""]


def test_bytes_of_a_block_count_tags_and_lengths() -> None:
    made = filled(b"aaaa", b"bbbbbbbb", b"cc")
    assert [first(made, bytes_max=size) for size in (20, 19, 6, 5)] == [
        "aaaa bbbbbbbb cc",
        "aaaa bbbbbbbb",
        "aaaa",
        "cc",
    ]
    assert first(made, bytes_max=10) == "aaaa cc", "one that does not fit holds up no other"


def test_as_many_as_are_wanted_and_one_at_least() -> None:
    made = filled(b"aaaa", b"bb", b"cc")
    assert [first(made, wanted=size) for size in (1, 10, 14)] == ["aaaa", "aaaa bb", "aaaa bb cc"]
    assert first(made, count_max=2) == "aaaa bb"


def test_one_of_no_bytes_is_refused_as_no_message_could_bear_it() -> None:
    made = pool()
    assert made.take_in(b"", CLIENTS, ROOM) == "a transaction of no bytes"
    assert (len(made), made.bytes) == (0, 0)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(Transactions((b"",))), type=Transactions)


def test_too_large() -> None:
    made = pool(bytes_max=TX_BYTES_MAX * 4)
    assert made.take_in(b"a" * 98, CLIENTS, 99) == "a transaction of 98 bytes, and blocks have room for 99"
    assert made.take_in(b"a" * 97, CLIENTS, 99) == ""
    too_large = bytes(TX_BYTES_MAX + 1)
    assert (
        made.take_in(too_large, CLIENTS, 4 * TX_BYTES_MAX)
        == f"a transaction of {TX_BYTES_MAX + 1} bytes, at most {TX_BYTES_MAX}"
    )


@pytest.mark.parametrize(("limits", "full"), [({"count_max": 4}, 4), ({"bytes_max": 8}, 4)])
def test_full(limits: dict[str, int], full: int) -> None:
    made = pool(**limits)
    taken = [made.take_in(b"%02d" % n, CLIENTS, ROOM) for n in range(6)]
    assert [why.split(":")[0] for why in taken] == [""] * full + ["mempool is full"] * 2


@pytest.mark.parametrize("limits", [{"count_max": 8}, {"bytes_max": 16}])
def test_another_node_has_a_share_and_leaves_room_for_clients(limits: dict[str, int]) -> None:
    made = pool(**limits)
    taken = [made.take_in(b"%02d" % n, 1, ROOM) for n in range(8)]
    assert taken[:2] == ["", ""]
    assert all("of one node" in why for why in taken[2:])
    assert all(made.take_in(b"c%d" % n, CLIENTS, ROOM) == "" for n in range(6))
    made.decided([b"00"], [True])
    assert made.take_in(b"99", 1, ROOM) == "", "there is room again"


def test_after_a_block_nothing_is_ready_before_it_was_checked_again() -> None:
    made = filled(b"a", b"b")
    made.begin_era()
    assert (first(made), len(made), made.txs) == ("", 0, (b"a", b"b"))
    assert made.recheck(99, ROOM) == (b"a", b"b")
    assert made.recheck(99, ROOM) == (), "the app is being asked"
    assert (first(made), len(made)) == ("", 0)
    made.checked(b"a", ResponseCheckTx(1), -1)
    made.checked(b"b", OK, -1)
    assert (first(made), len(made), made.bytes) == ("b", 1, 1)


def test_enough_for_a_block_are_checked_again_and_others_in_the_place_of_those_that_are_refused() -> None:
    made = filled(*[b"%d" % n for n in range(6)])
    made.begin_era()
    assert made.take_in(b"new", CLIENTS, ROOM) == ""
    assert made.checked(b"new", OK, -1) == ""
    assert made.recheck(3, ROOM) == (b"0", b"1", b"2")
    assert made.recheck(3, ROOM) == (), "three are being asked about"
    made.checked(b"0", OK, -1)
    made.checked(b"1", ResponseCheckTx(1), -1)
    made.checked(b"2", OK, -1)
    assert made.recheck(3, ROOM) == (b"3",)
    made.checked(b"3", OK, -1)
    assert made.recheck(3, ROOM) == ()
    assert (first(made), made.recheck(99, 3)) == ("0 2 3 new", (b"4",)), "more bytes than are wanted are enough"


def test_an_answer_that_was_asked_for_before_the_last_block_lets_nothing_into_the_next() -> None:
    made = pool()
    made.take_in(b"a", CLIENTS, ROOM)
    made.begin_era()
    assert made.recheck(99, ROOM) == ()
    made.checked(b"a", OK, -1)
    assert (first(made), len(made)) == ("", 0)
    assert made.recheck(99, ROOM) == (b"a",)


def test_what_waits_for_long_is_told_again_the_oldest_first_and_less_and_less_often() -> None:
    made = filled(b"aa", b"bb")
    assert made.overdue(99, 9, 1) == ()
    assert made.overdue(3, 9, 1) == (b"aa",), "no more bytes"
    assert made.overdue(99, 1, 1) == (b"bb",)
    assert [beat for beat in range(4, 50) if made.overdue(99, 9, 1)] == [8, 12, 32, 48]


def test_what_waits_behind_more_than_a_block_has_more_time() -> None:
    made = filled(b"aa", b"bb", b"cc", b"dd", b"ee")
    assert [made.blocks(*room) for room in ((9, 99), (2, 99), (9, 2), (5, 99))] == [1, 3, 6, 2]
    assert [beat for beat in range(1, 30) if made.overdue(99, 9, made.blocks(2, 99))] == [6]
    made.decided([b"aa", b"bb", b"cc", b"dd"], [True] * 4)
    assert made.blocks(2, 99) == 1
    assert made.overdue(99, 9, 1) == (b"ee",), "the crowd is gone, and it has waited for four times as long"


def test_what_came_from_another_node_is_told_when_that_node_had_its_time() -> None:
    made = pool()
    made.take_in(b"a", 1, ROOM)
    made.checked(b"a", OK, -1)
    assert [beat for beat in range(1, 65) if made.overdue(99, 9, 1)] == [16, 64]
