"""Disks of their own for nodes, small enough to be filled: file systems in memory. Needs root.

Each bears the number of this process; those of processes that are gone, killed perhaps, are swept away.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DISK_BYTES = 8 << 20
CHUNK_BYTES = 64 << 10
SOURCE = "quorate-disk-"
"""What it is a disk of, for those that look at the system's mounts, with the number of the process."""


class NoDisk(Exception):
    """Such a disk cannot be had here; the text says why."""


def sweep() -> None:
    """Unmount what a process left behind which was killed."""
    for line in Path("/proc/mounts").read_text().splitlines():
        source, point, *_ = line.split()
        owner = source.removeprefix(SOURCE)
        if source.startswith(SOURCE) and not Path("/proc", owner).exists():
            unmount(Path(point))


def mount(path: Path, size_bytes: int = DISK_BYTES) -> None:
    """A file system of its own at a folder. Raises NoDisk."""
    path.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        raise NoDisk("mounting a small disk needs root")
    sweep()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", f"{SOURCE}{os.getpid()}", path]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        raise NoDisk(f"cannot mount a small disk: {mounted.stderr.strip()}")


def unmount(path: Path) -> None:
    """And all that is on it. Lazily: a process that is being killed may still have a file open."""
    subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def small_disk(path: Path, size_bytes: int = DISK_BYTES) -> Iterator[None]:
    """One for a while. Skips where that is not possible."""
    try:
        mount(path, size_bytes)
    except NoDisk as error:
        pytest.skip(f"{error}: a full disk is not tested")
    try:
        yield
    finally:
        unmount(path)


def ballast_of(folder: Path) -> Path:
    """The file that takes the space."""
    return folder / "ballast"


def fill(folder: Path) -> Path:
    """Take all space that is left; the file that has it. Again: what was given free since."""
    ballast = ballast_of(folder)
    with ballast.open("ab", buffering=0) as file:
        size = CHUNK_BYTES
        while size:
            try:
                file.write(b"\xff" * size)
            except OSError:
                size //= 2
    return ballast
