"""Shared by the storage tests: a journal that keeps its reports, and a disk that forgets what was not synced."""

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pytest

from quorate.runtime.files import Identity
from quorate.runtime.journal import Journal
from quorate.runtime.journal.segment import FRAME_HEADER_SIZE, HEADER_SIZE

IDENTITY = Identity(cluster="test", node=1)
# Thousands of syncs wait for nobody's disk here. What a power cut does is LossyDisk's part, on any file system.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
WAIT_S = 30  # a bound for what is broken, never reached by what works

State = dict[str, bytes]  # a folder: name -> content


def of(payload: bytes) -> Callable[[BinaryIO], None]:
    """What writes a snapshot of just these bytes."""

    def write(file: BinaryIO) -> None:
        file.write(payload)

    return write


class Recorder:
    """A journal, the frames it recovered, and what it reported (from its thread)."""

    def __init__(self, directory: Path, *, segment_size_bytes: int = 1 << 20, identity: Identity = IDENTITY) -> None:
        self.durable: list[int] = []
        self.stalls: list[str | None] = []
        self._news = threading.Condition()
        self.journal, self.frames = Journal.open(
            directory,
            identity=identity,
            segment_size_bytes=segment_size_bytes,
            on_durable=lambda sequence: self._note(self.durable, sequence),
            on_stall=lambda reason: self._note(self.stalls, reason),
        )

    def _note(self, into: list, what: object) -> None:
        with self._news:
            into.append(what)
            self._news.notify_all()

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition, on the reports or not."""
        end = time.monotonic() + WAIT_S
        with self._news:
            while not condition() and time.monotonic() < end:
                self._news.wait(0.05)
            assert condition(), (self.durable, self.stalls, self.journal.failure)

    def wait(self, sequence: int) -> None:
        self.until(lambda: self.durable and self.durable[-1] >= sequence)

    def append(self, *frames: bytes) -> None:
        """One frame a write, each durable before the next."""
        for frame in frames:
            self.wait(self.journal.append(frame))

    def checkpoint(self, *frames: bytes) -> None:
        self.wait(self.journal.checkpoint(frames))

    def settle(self) -> None:
        """Wait until no checkpoint is under way."""
        self.until(lambda: not self.journal.has_checkpoint_under_way)

    def hold(self) -> None:
        """Append a frame, in whose report the writer thread waits until it may go on."""
        entered = threading.Event()
        self._gate = threading.Event()
        report = self.journal._on_durable

        def hold(sequence: int) -> None:
            entered.set()
            self._gate.wait(WAIT_S)
            report(sequence)

        self.journal._on_durable = hold
        self.journal.append(b"the write before")
        assert entered.wait(WAIT_S)
        self.journal._on_durable = report

    def go_on(self) -> None:
        self._gate.set()

    def append_as_one_write(self, *frames: bytes) -> None:
        self.hold()
        for frame in frames:
            last = self.journal.append(frame)
        self.go_on()
        self.wait(last)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *exception: object) -> None:
        self.journal.close()


def recovered(directory: Path) -> list[bytes]:
    """Open and close: the frames that are there."""
    with Recorder(directory) as recorder:
        return recorder.frames


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.journal"))


def frame_offsets(frames: Iterable[bytes]) -> list[int]:
    """Where each frame of a first segment begins, and where the last one ends."""
    offsets = [HEADER_SIZE]
    for frame in frames:
        offsets.append(offsets[-1] + FRAME_HEADER_SIZE + len(frame))
    return offsets


def read_state(directory: Path) -> State:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def durable_now(directory: Path) -> tuple[Iterable[str], State]:
    """The names and contents in a folder, for a LossyDisk for which all of it is durable."""
    state = read_state(directory)
    return state.keys(), state


def write_state(directory: Path, state: State) -> Path:
    directory.mkdir(parents=True)
    for name, content in state.items():
        (directory / name).write_bytes(content)
    return directory


@dataclass
class LossyDisk:
    """Watches one folder through the system calls of this process, and knows what a power cut may leave of it.

    After each call that changes the folder, `on_change` gets the states that a crash there can leave: everything
    (a process that was killed), only what was synced, synced content under the newest names, that with zeros where
    data was not synced, with every second unsynced block written, and only what was synced without the names that
    were removed since.
    """

    directory: Path
    on_change: Callable[[list[State]], None] = lambda states: None
    names: dict[str, int] = field(default_factory=dict)  # durable: name -> inode
    contents: dict[int, bytes] = field(default_factory=dict)  # durable: inode -> content
    _held: list[int] = field(default_factory=list)  # keeps inodes from being used again

    def start(self, patch: pytest.MonkeyPatch, names: Iterable[str] = (), contents: State | None = None) -> None:
        """Watch from now on. names, contents: what of a folder that has files already is durable."""
        now = self._inodes()
        self.names = {name: now[name] for name in names if name in now}
        self.contents = {now[name]: content for name, content in (contents or {}).items()}
        for name in ("pwritev", "pwrite", "fsync", "fdatasync", "ftruncate", "unlink", "replace"):
            patch.setattr(os, name, self._watch(name, getattr(os, name)))

    def stop(self) -> None:
        for fd in self._held:
            os.close(fd)

    def synced(self) -> State:
        return {name: self.contents.get(inode, b"") for name, inode in self.names.items()}

    def states(self) -> list[State]:
        written = read_state(self.directory)
        inodes = self._inodes()
        kept = {name: self.contents.get(inodes[name], b"") for name in written}
        zeroed = {name: content.ljust(len(written[name]), b"\0") for name, content in kept.items()}
        mixed = {name: _mixed(zeroed[name], written[name]) for name in written}
        fewer = {name: content for name, content in self.synced().items() if name in written}
        return [written, self.synced(), kept, zeroed, mixed, fewer]

    def _inodes(self) -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in self.directory.iterdir() if path.is_file()}

    def _watch(self, name: str, call: Callable) -> Callable:
        def watched(target, *arguments, **options):
            result = call(target, *arguments, **options)
            if self._concerns(target):
                if name in ("fsync", "fdatasync"):
                    self._sync(target)
                elif name == "pwritev" and len(arguments) == 3 and arguments[2] & os.RWF_DSYNC:
                    self.on_change(self.states())  # a crash in the midst of the call
                    self._sync_range(target, arguments[1], result)
                self.on_change(self.states())
            return result

        return watched

    def _concerns(self, target: int | str | Path) -> bool:
        path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else Path(target)
        return self.directory in (path, path.parent)

    def _sync(self, fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").is_dir():
            self.names = self._inodes()
        else:
            self._keep(fd, os.pread(fd, os.fstat(fd).st_size, 0))

    def _sync_range(self, fd: int, offset: int, size: int) -> None:
        before = self.contents.get(os.fstat(fd).st_ino, b"")
        self._keep(fd, before[:offset].ljust(offset, b"\0") + os.pread(fd, size, offset) + before[offset + size :])

    def _keep(self, fd: int, content: bytes) -> None:
        self.contents[os.fstat(fd).st_ino] = content
        self._held.append(os.dup(fd))


def _mixed(old: bytes, new: bytes) -> bytes:
    """Every second block of 64 bytes from the new content."""
    old = old[: len(new)].ljust(len(new), b"\0")
    return b"".join((old, new)[(at // 64) % 2][at : at + 64] for at in range(0, len(new), 64))
