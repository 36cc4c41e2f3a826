"""The index, asked by a thread that writes a snapshot while another changes it between any two steps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from quorate.machines.kv.index import KeyIndex, first_stamp

KEY = b"key"
COMPACTED = 5
STEPS = 12
"""More lines than a look-up has, so that each of them is interrupted once."""


def index_of(*revisions: int) -> KeyIndex:
    """One key that was put at these revisions."""
    index = KeyIndex()
    for revision in revisions:
        index.put(KEY, first_stamp(revision), revision)
    return index


def put(index: KeyIndex) -> None:
    index.put(KEY, first_stamp(9), 9)


def delete(index: KeyIndex) -> None:
    index.delete(KEY, b"", first_stamp(9) | 1)


def prune(index: KeyIndex) -> None:
    index.prune(KEY, COMPACTED)


def put_and_take_back(index: KeyIndex) -> None:
    index.put(KEY, first_stamp(9), 9)
    index.revert(KEY, 2, 2)


def prune_and_put(index: KeyIndex) -> None:
    prune(index)
    put(index)


def interrupted(at: int, change: Callable[[], Any], ask: Callable[[], bool], where: Any) -> bool:
    """What ``ask`` says if ``change`` happens before the line of this number, counted over the lines of ``where``."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if frame.f_code is not where.__code__:
            return None
        if event == "line":
            lines += 1
            if lines == at:
                sys.settrace(None)
                change()
                sys.settrace(trace)
        return trace

    sys.settrace(trace)
    try:
        return ask()
    finally:
        sys.settrace(None)


@pytest.mark.parametrize("change", [put, delete, prune, put_and_take_back, prune_and_put])
@pytest.mark.parametrize(
    "revisions", [(1, 3, 5, 7, 8), (1, 3, 4, 7, 8), (1, 4, 7, 8), (1, 2, 3, 4), (4,), (7, 8), (2, 7)]
)
@pytest.mark.parametrize("at", range(1, STEPS))
def test_what_can_be_read_is_never_taken_for_garbage(
    change: Callable[[KeyIndex], None], revisions: tuple[int, ...], at: int
) -> None:
    kept = max((revision for revision in revisions if revision <= COMPACTED), default=0)
    for revision in revisions:
        index = index_of(*revisions)
        found = interrupted(
            at,
            lambda: change(index),  # noqa: B023 (called at once)
            lambda: index.is_garbage(KEY, first_stamp(revision), COMPACTED),  # noqa: B023
            KeyIndex._at,
        )
        assert found is (revision < COMPACTED and revision != kept)


@pytest.mark.parametrize("revisions", [(1, 3, 5, 7, 8, 9), (1, 2, 3, 4, 9), (4, 9), (2, 7, 9)])
@pytest.mark.parametrize("at", range(1, STEPS + 10))
def test_what_is_taken_back_meanwhile_hides_nothing(revisions: tuple[int, ...], at: int) -> None:
    """The other way round: the look-up happens between two steps of the one who takes a put back."""
    index = index_of(*revisions)
    kept = max(revision for revision in revisions if revision <= COMPACTED)
    said: list[bool] = []
    interrupted(
        at,
        lambda: said.append(index.is_garbage(KEY, first_stamp(kept), COMPACTED)),
        lambda: bool(index.revert(KEY, 2, len(revisions) - 1)),
        KeyIndex.revert,
    )
    assert said in ([], [False])
