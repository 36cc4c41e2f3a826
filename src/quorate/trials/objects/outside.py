"""What a command looked at beside its arguments and the state: the clock, chance, the environment, files, addresses.

How it works. While one command runs, the interpreter's profiler reports each call of a function written in C. So a
clock is found that is rounded so coarsely that all nodes of a simulation read the same, and an environment or a file
that they share.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

MODULES: Final = frozenset({"time", "posix", "nt", "io", "_io", "_socket", "_thread", "_posixsubprocess", "_uuid"})
CLOCKS: Final = frozenset({"now", "utcnow", "today"})
HARMLESS: Final = frozenset({"fspath", "StringIO", "BytesIO", "text_encoding", "get_ident", "allocate_lock", "RLock"})
PACKAGE: Final = str(Path(__file__).resolve().parents[2])
_ENVIRONMENT: Final = type(os.environ).__getitem__.__code__
_CHANCE: Final = vars(random)["_inst"]


class Glances:
    """Sees what runs; ``path`` is the file that ``id`` must not be called in."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self.seen: str | None = None
        """The first of it."""

    @contextmanager
    def watch(self) -> Iterator[None]:
        """As long as this lasts. Whoever profiles or debugs has the profiler: then nothing is seen."""
        before, collects = sys.getprofile(), gc.isenabled()
        gc.disable()  # what it ends would run as if the command had called it
        if before is None:
            sys.setprofile(self._profile)
        try:
            yield
        finally:
            if before is None:
                sys.setprofile(None)
            if collects:
                gc.enable()

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        if self.seen is not None:
            return
        if event == "call":
            if frame.f_code is _ENVIRONMENT:
                self.seen = "an environment variable"
        elif event == "c_call" and not frame.f_code.co_filename.startswith(("<frozen", PACKAGE)):
            self._called(frame, arg)

    def _called(self, frame: FrameType, function: Any) -> None:
        owner, name, module = function.__self__, function.__name__, function.__module__
        if module in MODULES and name not in HARMLESS:
            self.seen = f"{'os' if module in ('posix', 'nt') else module}.{name}()"
        elif owner is _CHANCE:
            self.seen = f"random.{name}()"
        elif name in CLOCKS and isinstance(owner, type):
            self.seen = f"{owner.__name__}.{name}()"
        elif module == "builtins" and name == "id" and frame.f_code.co_filename == self._path:
            self.seen = "id()"
