"""Targets, work and the next target: published vectors, and what must hold of every number."""

from itertools import pairwise
from random import Random
from statistics import fmean, pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from quorate.ledger.sealer.compact import packed, target_of, unpacked, work_of
from quorate.ledger.sealer.difficulty import (
    BITCOIN_LIMIT,
    RETARGET_S,
    TEST_LIMIT,
    BitcoinDifficulty,
    FixedDifficulty,
    LwmaDifficulty,
    retargeted,
)
from quorate.ledger.tree import BlockTree, TreeBase, tree_base

from tests.ledger.blocks import header
from tests.ledger.mining import GENESIS
from tests.ledger.sealer.bitcoin_headers import FIRST

ANY = (1 << 256) - 1
NONE = (
    0x00000000,
    0x00123456,
    0x01003456,
    0x02000056,
    0x03000000,
    0x04000000,
    0x00923456,
    0x01803456,
    0x02800056,
    0x03800000,
    0x04800000,
)
"""Zero, with a sign or without."""
NEGATIVE = (0x01FEDCBA, 0x02923456, 0x03923456, 0x04923456, 0x20923456)
TOO_LONG = (0xFF123456, 0x23000001, 0x22000100, 0x21010000, 0x21123456)
TARGETS = {
    0x01123456: 0x12,
    0x02008000: 0x80,
    0x02123456: 0x1234,
    0x03123456: 0x123456,
    0x04123456: 0x12345600,
    0x05009234: 0x92340000,
    0x20123456: 0x123456 << 8 * 29,
    0x1D00FFFF: BITCOIN_LIMIT,
    0x207FFFFF: TEST_LIMIT,
    0x1B0404CB: 0x0404CB << 8 * 24,
}
"""From Bitcoin Core's arith_uint256_tests.cpp and the developer reference."""
RETARGETS = [
    (1261130161, 1262152739, 0x1D00FFFF, 0x1D00D86A),
    (1231006505, 1233061996, 0x1D00FFFF, 0x1D00FFFF),
    (1279008237, 1279297671, 0x1C05A3F4, 0x1C0168FD),
    (1263163443, 1269211443, 0x1C387F6F, 0x1D00E1FD),
]
"""First and last time, old and new bits: Bitcoin Core, pow_tests.cpp: ordinary, at the limit, both clamps."""


def test_targets() -> None:
    for bits in (*NONE, *NEGATIVE, *TOO_LONG):
        assert target_of(bits, ANY) is None, f"{bits:08x}"
    for bits, target in TARGETS.items():
        assert target_of(bits, ANY) == target, f"{bits:08x}"
        assert target_of(bits, target) == target
        assert target_of(bits, target - 1) is None, "it is above the limit"
    assert target_of(0x207FFFFF, BITCOIN_LIMIT) is None


def test_packing() -> None:
    assert packed(0x80) == 0x02008000, "its first bit would be a sign"
    assert packed(0x92340000) == 0x05009234
    assert packed(0x12345678) == 0x04123456, "the rest is lost"
    assert packed(BITCOIN_LIMIT) == 0x1D00FFFF
    assert packed(TEST_LIMIT) == 0x207FFFFF
    assert packed(0) == 0


@given(st.integers(1, ANY))
def test_packing_rounds_down_and_once(target: int) -> None:
    found = target_of(packed(target), ANY)
    assert found is not None
    assert found <= target
    assert (target - found) << 15 < target, "fifteen bits are kept"
    assert packed(found) == packed(target)


@given(st.integers(0, 2**32 - 1))
def test_whatever_the_bits_a_target_is_in_range(bits: int) -> None:
    target = target_of(bits, BITCOIN_LIMIT)
    assert target is None or (0 < target <= BITCOIN_LIMIT and target == unpacked(bits))


def test_work() -> None:
    assert work_of(BITCOIN_LIMIT) == 4295032833
    assert work_of(TEST_LIMIT) == 2
    assert work_of(ANY) == 1
    assert work_of(1) == 2**255


@pytest.mark.parametrize(("first_s", "last_s", "old", "new"), RETARGETS)
def test_retarget(first_s: int, last_s: int, old: int, new: int) -> None:
    assert retargeted(old, first_s, last_s, BITCOIN_LIMIT) == new
    below = [header(bytes(32), 0, first_s + i, old) for i in range(2015)]
    last = header(below[-1], 0, last_s, old)
    rule = BitcoinDifficulty()
    for height, expected in ((2015, new), (30239, new), (2014, old), (2016, old)):
        tree = BlockTree(tree_base(last, height, 1, below), below_max=rule.looks_back)
        assert rule.next_bits(tree, last.id) == expected
    # Planted: 2016 intervals, from the last header of the period before. One of the vectors shows it.
    one_more = retargeted(old, first_s - 600, last_s, BITCOIN_LIMIT)
    assert (one_more == new) is (old != 0x1D00FFFF or new == old)


def test_retarget_walks_over_blocks_of_the_tree() -> None:
    """The same from 2016 blocks above the base."""
    first_s, last_s, old, new = RETARGETS[0]
    rule = BitcoinDifficulty()
    parent = header(bytes(32), 0, first_s - 600, old)
    tree = BlockTree(tree_base(parent, 32255, 1))
    for i in range(2016):
        parent = header(parent, 0, last_s if i == 2015 else first_s + i, old)
        tree.add(parent, 1)
    assert tree[parent.id].height + 1 == 32255 + 2017
    assert (32255 + 2017) % 2016 == 0
    assert rule.next_bits(tree, parent.id) == new
    assert rule.next_bits(tree, parent.parent) == old


def test_the_first_blocks_of_bitcoin_have_the_bits_that_follow() -> None:
    tree = BlockTree(TreeBase(FIRST[0]))
    for parent, child in pairwise(FIRST):
        assert BitcoinDifficulty().next_bits(tree, parent.id) == child.bits
        tree.add(child, 1)
    assert FixedDifficulty().next_bits(tree, FIRST[0].id) == 0x207FFFFF


# --- LWMA ---


def test_lwma_by_hand() -> None:
    """Three solve times of 60, 120 and 30 s at one target: 60 + 240 + 90 = 390 against 360, and one per cent."""
    rule = LwmaDifficulty(60, 3)
    bits = 0x1F00FFFF
    times = (0, 60, 180, 210)
    headers = [header(bytes(32), 0, 1000 + time, bits) for time in times]
    work = work_of(target_of(bits, TEST_LIMIT) or 0)
    expected = 3 * work * 60 * 4 * 99 // (200 * 390)
    assert rule.averaged(headers) == packed((1 << 256) // expected - 1)
    assert expected < work
    backwards = [replace(headers[0], time_s=9000), *headers[1:]]  # one that lies counts for six block times at most
    most = 3 * work * 60 * 4 * 99 // (200 * max(-360 + 240 + 90, 3 * 3 * 60 // 20))
    assert rule.averaged(backwards) == packed((1 << 256) // most - 1)
    late = [*headers[:3], replace(headers[3], time_s=90_000)]
    least = 3 * work * 60 * 4 * 99 // (200 * (60 + 240 + 3 * 360))
    assert rule.averaged(late) == packed((1 << 256) // least - 1)
    with pytest.raises(ValueError, match="window 0"):
        LwmaDifficulty(60, 0)
    assert (rule.future_s_max, LwmaDifficulty(600, 60).future_s_max) == (300, 1800)


def test_lwma_waits_for_enough_blocks() -> None:
    rule = LwmaDifficulty(60, 3)
    tree, parent = BlockTree(TreeBase(GENESIS)), GENESIS
    for i in range(1, 4):
        assert rule.next_bits(tree, parent.id) == GENESIS.bits
        parent = header(parent, i, GENESIS.time_s + 20 * i, GENESIS.bits)
        tree.add(parent, 2)
    harder = rule.next_bits(tree, parent.id)
    assert (target_of(harder, TEST_LIMIT) or 0) < TEST_LIMIT // 2, "blocks came three times too fast"


def solve(rates: list[float], seed: int = 1) -> tuple[list[float], list[float]]:
    """Solve times and works when hash rates are these, one a block."""
    rng, rule = Random(seed), LwmaDifficulty(60, 60)
    bits = packed((1 << 256) // 1_000_000)
    headers = [header(bytes(32), i, 60 * i, bits) for i in range(61)]
    times, works, now = [], [], float(headers[-1].time_s)
    for rate in rates:
        bits = rule.averaged(headers[-61:])
        work = work_of(target_of(bits, TEST_LIMIT) or 0)
        took = rng.expovariate(rate / work)
        now += took
        headers.append(header(bytes(32), 0, int(now), bits))
        times.append(took)
        works.append(work)
    return times, works


@pytest.mark.slow
def test_lwma_keeps_the_block_time_and_recovers() -> None:
    """4,000 blocks at a constant rate; and a rate that grows tenfold."""
    rate = 1_000_000 / 60
    times, works = solve([rate] * 4000)
    assert 0.97 < fmean(times[500:]) / 60 < 1.03
    assert pstdev(works[500:]) / fmean(works[500:]) < 0.16
    _, works = solve([rate] * 300 + [10 * rate] * 300)
    assert 50 < next(i for i in range(300) if works[300 + i] > 9_000_000) < 110


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4), st.sampled_from([0x207FFFFF, 0x1D00FFFF]))
def test_lwma_gives_bits_of_the_chain_whatever_the_times(times: list[int], bits: int) -> None:
    found = target_of(LwmaDifficulty(60, 3).averaged([header(bytes(32), 0, each, bits) for each in times]), TEST_LIMIT)
    assert found is not None
    assert 0 < found <= TEST_LIMIT
    assert RETARGET_S == 1_209_600
