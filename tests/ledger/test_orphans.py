"""Orphans are found by the parent they wait for, and a peer that floods pushes out its own alone."""

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.ledger.header import LedgerHeader
from quorate.ledger.orphans import ORPHAN_BYTES, OrphanHeaders

from tests.ledger.blocks import GENESIS, chain, header


def unknown(number: int) -> LedgerHeader:
    """One whose parent is its own."""
    return header(number.to_bytes(32, "big"), number)


def test_what_waits_is_claimed_once_and_asked_for_at_its_root() -> None:
    orphans = OrphanHeaders()
    one, two, three = chain(GENESIS, 3)
    twin = header(one, 99)
    for each in (three, two, twin, two):
        orphans.put("peer", each)
    assert len(orphans) == 3
    assert orphans.wanted() == [(one.id, "peer")]  # not two, which is an orphan itself
    assert [orphan.header for orphan in orphans.claim(one.id)] == [two, twin]
    assert orphans.claim(one.id) == []
    assert orphans.wanted() == [(two.id, "peer")]
    assert [orphan.id for orphan in orphans.claim(two.id)] == [three.id]
    assert len(orphans) == orphans.size_bytes == orphans.size_bytes_of("peer") == 0


def test_a_flood_pushes_out_its_own_oldest() -> None:
    orphans = OrphanHeaders(bytes_max=6 * ORPHAN_BYTES, peer_bytes_max=4 * ORPHAN_BYTES)
    honest = unknown(1000)
    orphans.put("honest", honest)
    for number in range(50):
        orphans.put("flood", unknown(number))
        assert orphans.size_bytes_of("flood") <= 4 * ORPHAN_BYTES
    assert [parent for parent, peer in orphans.wanted() if peer == "flood"] == [
        unknown(number).parent for number in range(46, 50)
    ]
    for number in range(100, 103):
        orphans.put("other", unknown(number))
    assert orphans.size_bytes == 6 * ORPHAN_BYTES
    assert orphans.size_bytes_of("flood") == 2 * ORPHAN_BYTES  # the one with most paid for the others
    assert [orphan.header for orphan in orphans.claim(honest.parent)] == [honest]


def test_a_peer_that_is_gone_holds_no_room() -> None:
    orphans = OrphanHeaders()
    for number in range(5):
        orphans.put(number % 2, unknown(number))
    orphans.forget(0)
    assert orphans.wanted() == [(unknown(1).parent, 1), (unknown(3).parent, 1)]
    orphans.forget(7)
    assert OrphanHeaders(bytes_max=0).put("peer", unknown(1)) is None
    assert len(OrphanHeaders(bytes_max=0)) == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12), st.booleans()), max_size=60))
def test_bounds_and_indexes_hold(steps: list[tuple[int, int, bool]]) -> None:
    orphans = OrphanHeaders(bytes_max=8 * ORPHAN_BYTES, peer_bytes_max=3 * ORPHAN_BYTES)
    held: dict[bytes, int] = {}
    for peer, number, is_claim in steps:
        one = unknown(number)
        if is_claim:
            assert [orphan.id for orphan in orphans.claim(one.parent)] == ([one.id] if one.id in held else [])
            held.pop(one.id, None)
        else:
            orphans.put(peer, one)
            held.setdefault(one.id, peer)
        left = dict(orphans.wanted())
        held = {id: who for id, who in held.items() if _parent(id) in left}
        assert {_parent(id): who for id, who in held.items()} == left
        assert one.id in held or is_claim
        assert orphans.size_bytes <= 8 * ORPHAN_BYTES
        assert all(orphans.size_bytes_of(each) <= 3 * ORPHAN_BYTES for each in range(4))
        assert orphans.size_bytes == sum(orphans.size_bytes_of(each) for each in range(4))


PARENTS = {unknown(number).id: unknown(number).parent for number in range(13)}


def _parent(id: bytes) -> bytes:
    return PARENTS[id]
