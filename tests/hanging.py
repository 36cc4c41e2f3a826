"""A disk that hangs in silence: calls on files below a folder do not return until it is released."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CALLS = ("pwritev", "pwrite", "fsync", "fdatasync")
WAIT_S = 60.0  # a bound for what is broken


class HangingDisk:
    """Below ``folder``, from ``hang`` on. ``entered`` is set when a call hangs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entered = threading.Event()
        self._may_go = threading.Event()
        self._may_go.set()

    def hang(self) -> None:
        self._may_go.clear()

    def release(self) -> None:
        self._may_go.set()

    def watched(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def waits(descriptor: int, *arguments: Any, **options: Any) -> Any:
            if not self._may_go.is_set() and self._concerns(descriptor):
                self.entered.set()
                assert self._may_go.wait(WAIT_S), "nobody released the disk"
            return call(descriptor, *arguments, **options)

        return waits

    def _concerns(self, descriptor: int) -> bool:
        return self.folder in Path(f"/proc/self/fd/{descriptor}").readlink().parents


@contextmanager
def hanging_disk(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[HangingDisk]:
    """One that does not hang yet, and does not at the end."""
    disk = HangingDisk(folder)
    for name in CALLS:
        patch.setattr(os, name, disk.watched(getattr(os, name)))
    try:
        yield disk
    finally:
        disk.release()
