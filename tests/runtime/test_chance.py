"""Chance on real nodes: streams that depend on seed and name alone, look random, and can be copied."""

import copy
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise, permutations
from typing import Any

import pytest

from quorate.kernel import Host, Received
from quorate.kernel.replay import SEED_BYTES
from quorate.runtime.chance import Stream, new_seed, seeded_streams

from tests.kernel.cores import Puppet, do

SEED = bytes(range(SEED_BYTES))


def drawn(stream: Any) -> list[Any]:
    """One of everything that a core may ask of chance."""
    deck = list("abcdefgh")
    stream.shuffle(deck)
    return [
        stream.random(),
        stream.uniform(-1.0, 3.0),
        stream.getrandbits(200),
        stream.expovariate(2.0),
        stream.sample(range(1000), 5),
        deck,
        stream.gauss(),
    ]


def test_the_same_seed_and_name_give_the_same_numbers() -> None:
    assert drawn(Stream(SEED, b"a")) == drawn(Stream(SEED, b"a"))
    assert seeded_streams(SEED)((("slot", 7),)).random() == seeded_streams(SEED)((("slot", 7),)).random()


def test_other_seeds_and_names_give_others() -> None:
    first = drawn(Stream(SEED, b"a"))
    for other in (Stream(SEED, b"b"), Stream(SEED[::-1], b"a"), Stream(b"", b"a"), Stream(SEED, b"")):
        assert not any(a == b for a, b in zip(first, drawn(other), strict=True))


def test_each_path_has_a_stream_of_its_own_and_a_recorded_seed_comes_first() -> None:
    chance = seeded_streams(SEED)
    paths: list[Any] = [(), (("slot", 1),), (("slot", 11),), (("slot", 1), ("slot", 1))]
    assert len({chance(path).getrandbits(64) for path in paths}) == len(paths)
    for path in paths:
        assert chance(path, b"x" * 16).random() == seeded_streams(b"x" * 16)(path).random()
        assert chance(path, b"").random() == chance(path).random()


def test_numbers_do_not_hang_on_the_hash_seed() -> None:
    code = (
        "from quorate.runtime.chance import seeded_streams\n"
        "from tests.runtime.test_chance import SEED, drawn\n"
        "print(drawn(seeded_streams(SEED)((('slot', 7), ('aba', 2)))))"
    )
    found = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1
    assert found.pop().strip() == str(drawn(seeded_streams(SEED)((("slot", 7), ("aba", 2)))))


def test_new_seeds_differ() -> None:
    assert len({new_seed() for _ in range(100)}) == 100
    assert len(new_seed()) == SEED_BYTES


# --- crude statistics; the seed is fixed, so that each holds or not for ever ---


def chi_square(counts: Any, cells: int) -> float:
    """In units of its standard deviation, how far the counts are from being equal."""
    total = sum(counts)
    expected = total / cells
    found = sum((count - expected) ** 2 / expected for count in counts) + (cells - len(list(counts))) * expected
    return float((found - (cells - 1)) / (2 * (cells - 1)) ** 0.5)


def test_bytes_are_uniform() -> None:
    stream = Stream(SEED, b"bytes")
    assert abs(chi_square(Counter(stream.getrandbits(8) for _ in range(50_000)).values(), 256)) < 4


def test_every_bit_is_even_and_no_two_go_together() -> None:
    stream = Stream(SEED, b"bits")
    numbers = [stream.getrandbits(53) for _ in range(20_000)]
    for bit in range(53):
        ones = sum(number >> bit & 1 for number in numbers)
        assert abs(ones - 10_000) < 4 * 71
        next_bit = sum((number >> bit ^ number >> (bit + 1) % 53) & 1 for number in numbers)
        assert abs(next_bit - 10_000) < 4 * 71


def test_floats_are_uniform_from_0_to_1_and_each_is_far_from_the_one_before() -> None:
    stream = Stream(SEED, b"floats")
    floats = [stream.random() for _ in range(50_000)]
    assert 0.0 <= min(floats) < 0.001
    assert 0.999 < max(floats) < 1.0
    assert abs(chi_square(Counter(int(number * 100) for number in floats).values(), 100)) < 4
    pairs = Counter((int(a * 10), int(b * 10)) for a, b in pairwise(floats))
    assert abs(chi_square(pairs.values(), 100)) < 4


def test_two_streams_are_independent() -> None:
    chance = seeded_streams(SEED)
    a, b = chance((("slot", 1),)), chance((("slot", 2),))
    pairs = Counter((a.getrandbits(4), b.getrandbits(4)) for _ in range(50_000))
    assert abs(chi_square(pairs.values(), 256)) < 4


def test_uniform_and_expovariate_have_their_means() -> None:
    stream = Stream(SEED, b"means")
    uniform = [stream.uniform(2.0, 6.0) for _ in range(20_000)]
    assert min(uniform) >= 2.0
    assert max(uniform) <= 6.0
    assert sum(uniform) / 20_000 == pytest.approx(4.0, abs=0.05)
    waits = [stream.expovariate(4.0) for _ in range(20_000)]
    assert min(waits) >= 0.0
    assert sum(waits) / 20_000 == pytest.approx(0.25, abs=0.01)


def test_each_order_is_as_likely_as_another() -> None:
    stream = Stream(SEED, b"orders")
    counts: Counter[tuple[int, ...]] = Counter()
    for _ in range(24_000):
        deck = [0, 1, 2, 3]
        stream.shuffle(deck)
        counts[tuple(deck)] += 1
    assert set(counts) == set(permutations(range(4)))
    assert abs(chi_square(counts.values(), 24)) < 4


def test_samples_are_of_different_elements_each_as_likely_as_another() -> None:
    stream = Stream(SEED, b"samples")
    counts: Counter[int] = Counter()
    for _ in range(10_000):
        sample = stream.sample(range(10), 4)
        assert len(set(sample)) == 4
        counts.update(sample)
    assert abs(chi_square(counts.values(), 10)) < 4
    assert sorted(stream.sample([3, 1, 2], 3)) == [1, 2, 3]
    with pytest.raises(ValueError, match="larger than population"):
        stream.sample([1], 2)


def test_as_many_bits_as_asked_for() -> None:
    stream = Stream(SEED, b"lengths")
    assert stream.getrandbits(0) == 0
    for k in (1, 7, 8, 9, 53, 64, 512, 513, 5000):
        numbers = [stream.getrandbits(k) for _ in range(20)]
        assert all(0 <= number < 1 << k for number in numbers)
        assert max(numbers) >> (k - 1) == 1, "the highest bit is used"
    with pytest.raises(ValueError, match="-1 bits"):
        stream.getrandbits(-1)


# --- in a Host ---


def test_a_fork_of_a_host_draws_the_same_and_leaves_the_original_alone() -> None:
    host = Host(Puppet, 1, (1, 2), seeded_streams(SEED))
    host.start(0.0)
    host.root.env.rng.random()
    fork = host.fork()
    rest = drawn(fork.root.env.rng)
    assert drawn(host.root.env.rng) == rest
    stream = Stream(SEED, b"a")
    stream.gauss()
    assert drawn(copy.copy(stream)) == drawn(stream)


def test_what_a_core_draws_does_not_hang_on_what_others_drew() -> None:
    def of_child(before: Received) -> int:
        host = Host(Puppet, 1, (1, 2), seeded_streams(SEED))
        host.start(0.0)
        host.step([do(lambda core: core.hatch(1)), before], 1.0)
        return host.cores[("child", 1),].env.rng.getrandbits(64)

    assert of_child(do(lambda core: core.env.rng.random())) == of_child(do(lambda core: None))


def test_a_stream_once_seeded_stays_as_it_is() -> None:
    stream, other = Stream(SEED, b"a"), Stream(SEED, b"a")
    stream.seed(7)
    assert drawn(stream) == drawn(other)
