"""Configurations as bytes, and which nodes there are by the changes that were decided."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.parts.log.configuration import (
    ADDRESS_CHARACTERS_MAX,
    FOUNDERS_ALONE,
    KEY_BYTES_MAX,
    MEMBERS_MAX,
    NEWCOMERS_MAX,
    PREFIX,
    Change,
    Newcomer,
    Nodes,
    decode_change,
    encode_change,
)

NUMBER = st.integers(0, 1023)
FOUNDERS = (1, 2, 3)
FOUR, FIVE = Newcomer(4, "n4:1", b"key of 4"), Newcomer(5, "n5:1", b"key of 5")


def change(*members: int, newcomers: tuple[Newcomer, ...] = (), leavers: tuple[int, ...] = ()) -> Change:
    return Change(members, None, newcomers, leavers)


# --- as bytes ---


def test_without_newcomers_and_leavers_the_encoding_is_what_it_was() -> None:
    assert encode_change((3, 1, 1)) == PREFIX + msgspec.msgpack.encode(((1, 3), None))
    assert encode_change((1, 2), 7) == PREFIX + msgspec.msgpack.encode(((1, 2), 7))
    assert decode_change(encode_change((3, 1), 7)) == Change((1, 3), 7)


@given(
    st.lists(NUMBER, min_size=1, max_size=9),
    st.none() | st.integers(0, 2**62 - 1),  # as a Natural
    st.lists(st.builds(Newcomer, NUMBER, st.text(min_size=1, max_size=9), st.binary(max_size=64)), max_size=3),
    st.lists(NUMBER, max_size=3),
)
def test_what_is_encoded_is_decoded(
    members: list[int], epoch: int | None, newcomers: list[Newcomer], leavers: list[int]
) -> None:
    found = decode_change(encode_change(members, epoch, newcomers, leavers))
    assert found == Change(tuple(sorted(set(members))), epoch, tuple(newcomers), tuple(sorted(set(leavers))))


@pytest.mark.parametrize(
    "said",
    [
        ((), None),
        ((1,), -1),
        ((1,), None, ((1024, "n:1", b""),), ()),
        ((1,), None, ((4, "", b""),), ()),
        ((1,), None, ((4, "n" * (ADDRESS_CHARACTERS_MAX + 1), b""),), ()),
        ((1,), None, ((4, "n:1", bytes(KEY_BYTES_MAX + 1)),), ()),
        ((1,), None, ((4, "n:1", b""),) * (NEWCOMERS_MAX + 1), ()),
        ((1,), None, (), tuple(range(MEMBERS_MAX + 1))),
        ((1,), None, (), (), ()),
    ],
    ids=repr,
)
def test_what_is_broken_or_too_large_is_none(said: Any) -> None:
    assert decode_change(PREFIX + msgspec.msgpack.encode(said)) is None


def test_what_is_too_much_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="at most 8 nodes"):
        encode_change((1,), None, [FOUR] * (NEWCOMERS_MAX + 1))
    with pytest.raises(ValueError, match="takes leave of 64"):
        encode_change((1,), None, [], range(MEMBERS_MAX + 1))


# --- which nodes there are ---


def test_nodes_come_and_go() -> None:
    nodes = FOUNDERS_ALONE
    assert nodes.numbers(FOUNDERS) == {1, 2, 3}
    joined = nodes.after(change(1, 2, 3, newcomers=(FOUR,)))
    assert joined.numbers(FOUNDERS) == {1, 2, 3, 4}
    left = joined.after(change(2, 3, 4, newcomers=(FIVE,), leavers=(1,)))
    assert left == Nodes((FOUR, FIVE), (1,))
    assert left.numbers(FOUNDERS) == {2, 3, 4, 5}
    assert left.after(change(2, 3)) is left
    assert (bool(nodes), bool(joined), bool(left)) == (False, True, True)


STATE = Nodes((FOUR,), (1,))


@pytest.mark.parametrize(
    "fits",
    [
        change(2, 3),
        change(2, 3, 4),
        change(2, 3, newcomers=(FIVE,)),
        change(5, newcomers=(FIVE,)),
        change(3, leavers=(2, 4)),
        change(2, 5, newcomers=(FIVE,), leavers=(3,)),
    ],
    ids=repr,
)
def test_what_fits(fits: Change) -> None:
    assert STATE.takes(fits, FOUNDERS)


@pytest.mark.parametrize(
    "wrong",
    [
        change(1, 2, 3),
        change(2, 9),
        change(2, newcomers=(FOUR,)),
        change(2, newcomers=(Newcomer(2, "n2:1"),)),
        change(2, newcomers=(Newcomer(1, "n1:1"),)),
        change(2, newcomers=(FIVE, FIVE)),
        change(2, leavers=(1,)),
        change(2, leavers=(9,)),
        change(2, 3, leavers=(3,)),
        change(2, 5, newcomers=(FIVE,), leavers=(5,)),
    ],
    ids=[
        *(
            "a member that left",
            "a member that never was",
            "who is here already",
            "a founder",
            "a number that was used",
        ),
        *("twice", "who has left", "who never was", "who stays", "who comes"),
    ],
)
def test_what_does_not_fit(wrong: Change) -> None:
    assert not STATE.takes(wrong, FOUNDERS)


def test_what_cannot_have_come_of_changes() -> None:
    assert STATE.may_be(FOUNDERS)
    assert Nodes((FOUR,), (4, 1)).may_be(FOUNDERS)
    assert not Nodes((FOUR, FOUR)).may_be(FOUNDERS)
    assert not Nodes((Newcomer(2, "n2:1"),)).may_be(FOUNDERS)
