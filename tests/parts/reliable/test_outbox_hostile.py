"""Outbox: a peer that says anything at all gets no exception, no memory beyond the limits, and no more than one resend
a beat. The honest peer beside it is served as ever."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.kernel import nodes_of
from quorate.parts.reliable import EpochBeat

from tests.parts.reliable.owner import LETTER, Bench, Word, letter, letters

LIMITS = {"epochs_max": 4, "messages_max": 8, "bytes_max": 400, "parked_max": 5, "parked_bytes_max": 300}

naturals = st.sampled_from([0, 1, 2, 3, 5, 2**32, 2**62 - 1])
paths = st.sampled_from([(), (("voice", 0),), (("voice", 1),), (("voice", 0), ("late", 0)), (("x", 2**63 - 1),)])
said = st.builds(
    LETTER, naturals, naturals, st.sampled_from([0, 1, 2, 65535]), paths, st.builds(Word, st.text(max_size=50))
)
masks = st.sampled_from([b"", b"\x00", b"\x01", b"\xff\xff", b"\xff" * 8192])
heard = st.builds(
    EpochBeat, naturals, naturals, naturals, naturals, naturals, naturals, st.lists(masks, max_size=4).map(tuple)
)
own = st.sampled_from(["say", "advance", "beat"])


def do(bench: Bench, verb: str) -> None:
    epoch = bench.outbox.epoch
    if verb == "beat":
        bench.beat()
    else:
        bench.do(f"say {epoch} hello" if verb == "say" else f"advance {epoch + 1}")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(said, heard, own), max_size=60))
def test_nothing_that_a_peer_says_raises_fills_memory_or_makes_us_flood(items: list[Any]) -> None:
    bench = Bench(**LIMITS)
    outbox = bench.outbox
    resent_at: dict[int, int] = {}
    for item in items:
        before = outbox.resent
        if isinstance(item, str):
            do(bench, item)
        else:
            bench.on(1, item)
        if outbox.resent > before:
            assert resent_at.get(1) != outbox.tick, "two resends in one beat"
            resent_at[1] = outbox.tick
        assert outbox.messages <= LIMITS["messages_max"]
        assert outbox.size_bytes <= LIMITS["bytes_max"]
        count, size = outbox.parked(1)
        assert count <= LIMITS["parked_max"]
        assert size <= LIMITS["parked_bytes_max"]
        peer = outbox._peers.get(1)
        if peer is not None:
            for by_epoch in (peer.seen, peer.acknowledged, peer.opened_at):
                assert len(by_epoch) <= 2 + outbox.config.ahead_max
                assert all(mask.bit_length() <= 1 << 16 for mask in by_epoch.values())
    assert set(nodes_of(outbox.behind | outbox.abandoned)) <= {1}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(said, heard), max_size=30))
def test_the_honest_peer_beside_it_gets_all_and_is_heard(items: list[Any]) -> None:
    bench = Bench()
    bench.do("say 0 a", "say 0 b", "say 2 c")
    bench.on(1, *items)
    assert bench.on(2, letter(0, "x")).outputs == [(0, 2, "x")]
    bench.beat()
    assert letters(bench.hears(2, seen=(b"\x01",))) == [((2,), 0, 1, "b")]
    assert letters(bench.hears(2, epoch=1)) == [((2,), 2, 0, "c")]


def test_acknowledgements_of_what_was_never_sent_hide_nothing() -> None:
    bench = Bench()
    bench.do("say 0 a")
    bench.hears(1, seen=(b"\xff" * 8192,), to_tick=2**61)
    bench.do("say 0 b")
    assert letters(bench.hears(1)) == []
    bench.beat()
    assert letters(bench.hears(1)) == [((1,), 0, 1, "b")]


def test_an_epoch_out_of_this_world_frees_nothing_that_others_need() -> None:
    bench = Bench()
    bench.do("say 0 a")
    bench.hears(1, epoch=2**62 - 1, held_from=2**62 - 1)
    assert (bench.outbox.floor, bench.outbox.messages) == (0, 1)
    assert bench.outbox.abandoned == 0b010, "what one says is for the owner to count"
    bench.hears(1, epoch=0, life=2)
    assert bench.outbox.abandoned == 0
    bench.beat()
    assert letters(bench.hears(1, life=2)) == [((1,), 0, 0, "a")]
