"""The ordered set of keys against a plain sorted list."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.machines.kv import sortedkeys
from quorate.machines.kv.sortedkeys import SortedKeys

SHORT_KEYS = st.binary(max_size=2)


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sortedkeys, "_BUCKET_KEYS", 3)


def check(keys: SortedKeys, plain: list[bytes], start: bytes, end: bytes | None) -> None:
    expected = [k for k in plain if k >= start and (end is None or k < end)]
    assert list(keys.irange(start, end)) == expected
    assert keys.count(start, end) == len(expected)
    assert len(keys) == len(plain)


@given(st.sets(SHORT_KEYS), st.lists(SHORT_KEYS), SHORT_KEYS, st.none() | SHORT_KEYS)
def test_it_is_a_sorted_set(first: set[bytes], toggles: list[bytes], start: bytes, end: bytes | None) -> None:
    keys, plain = SortedKeys(first), sorted(first)
    check(keys, plain, start, end)
    for key in toggles:
        if key in plain:
            keys.remove(key)
            plain.remove(key)
        else:
            with pytest.raises(KeyError):
                keys.remove(key)
            keys.add(key)
            plain = sorted([*plain, key])
        check(keys, plain, start, end)
    taken = [key for key in plain if key >= start and (end is None or key < end)]
    assert keys.take_range(start, end) == taken
    rest = [key for key in plain if key not in taken]
    check(keys, rest, b"", None)
    check(keys, rest, start, None)
    for key in taken:
        keys.add(key)
    check(keys, plain, start, end)


def test_many() -> None:
    rng = random.Random(3)
    keys = SortedKeys()
    plain: set[bytes] = set()
    for _ in range(3000):
        key = rng.randbytes(2)[: rng.randint(1, 2)]
        if key in plain:
            keys.remove(key)
            plain.remove(key)
        else:
            keys.add(key)
            plain.add(key)
    check(keys, sorted(plain), b"", None)
    for key in sorted(plain):
        keys.remove(key)
    check(keys, [], b"", None)
