"""What every file of a node's data folder needs: an owner, a lock, a mode, durable names, durable writes.

Folders are made with mode 0700 and files with 0600, whatever the umask: what is in them is nobody else's to read.

The order that makes a file appear whole or not at all: write it under another name ("aside"), fsync it, rename it,
fsync its directory (Pillai et al., "All file systems are not created equal", OSDI 2014: a rename without either
fsync may survive a power cut as an empty file, or not at all).
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from quorate.runtime.errors import DiskUnreadable, JournalLocked
from quorate.runtime.forks import let_go, not_for_forks

ASIDE = ".aside"  # the suffix of a file that is not finished; removed at start
CLUSTER_SIZE_BYTES_MAX = 176  # of the cluster's name in UTF-8: it has a fixed place in file headers
READ_SIZE_BYTES = 1 << 20  # of one call; an error is looked for in blocks of BLOCK_SIZE_BYTES
BLOCK_SIZE_BYTES = 4096
FOLDER_MODE = 0o700
FILE_MODE = 0o600
IOV_MAX = os.sysconf("SC_IOV_MAX")  # most buffers in one pwritev
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
DSYNC: int | None = getattr(os, "RWF_DSYNC", None)
_DSYNC_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})

Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose files these are. cluster: 1 to 176 bytes of UTF-8; node: 0 to 2**64 - 1."""

    cluster: str
    node: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.cluster.encode()) <= CLUSTER_SIZE_BYTES_MAX:
            raise ValueError(f"a cluster name has 1 to {CLUSTER_SIZE_BYTES_MAX} bytes: {self.cluster!r}")
        if not 0 <= self.node < 1 << 64:
            raise ValueError(f"a node id is 0 to 2**64 - 1: {self.node}")


def fsync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(directory: Path) -> None:
    """Create a directory and its missing parents, each name durable in its parent. One that is there stays as it is."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    try:
        directory.mkdir(mode=FOLDER_MODE)
        directory.chmod(FOLDER_MODE)  # the umask may have taken some of it
    except FileExistsError:
        if not directory.is_dir():
            raise
    fsync_directory(directory.parent)


def own_directory(directory: Path) -> None:
    """The same for a directory of the node's own: nobody else may look into it, also if it was there."""
    make_directory(directory)
    if directory.stat().st_mode & 0o777 != FOLDER_MODE:
        with suppress(PermissionError):  # it is another user's, who has let this one in
            directory.chmod(FOLDER_MODE)


def create(path: Path, *, exclusive: bool = False) -> int:
    """A descriptor of a new, empty file that only its owner may read; one of that name is emptied, or is an error."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | (os.O_EXCL if exclusive else os.O_TRUNC), FILE_MODE)
    os.fchmod(fd, FILE_MODE)  # the umask may have taken some of it, or the file had another
    return fd


def replace_file(path: Path, data: bytes) -> None:
    """Give a file these contents, durably and at once. Raises OSError, and leaves nothing behind."""
    aside = path.with_name(path.name + ASIDE)
    fd = create(aside)
    try:
        try:
            write_all(fd, [data], 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        publish(aside, path)
    except OSError:
        with suppress(OSError):
            aside.unlink()
        raise


def publish(aside: Path, final: Path) -> None:
    """Give a finished and fsynced file its name, durably; it replaces any file of that name."""
    aside.replace(final)
    fsync_directory(final.parent)


def remove_asides(directory: Path) -> None:
    """Delete what unfinished writes of an earlier run left behind."""
    for path in sorted(directory.glob(f"*{ASIDE}")):
        path.unlink()


def read_file(path: Path, size: int | None = None) -> bytes:
    """The first `size` bytes of a file, or all. Raises DiskUnreadable where the disk reports an error, OSError."""
    parts: list[bytes] = []
    offset = 0
    with path.open("rb", buffering=0) as file:
        while size is None or offset < size:
            wanted = READ_SIZE_BYTES if size is None else min(READ_SIZE_BYTES, size - offset)
            try:
                part = os.pread(file.fileno(), wanted, offset)
            except OSError as error:
                raise DiskUnreadable(path, _unreadable_from(file.fileno(), offset), error) from error
            if not part:
                break
            parts.append(part)
            offset += len(part)
    return b"".join(parts)


def _unreadable_from(fd: int, offset: int) -> int:
    """The first block from an offset on that cannot be read."""
    try:
        while block := os.pread(fd, BLOCK_SIZE_BYTES, offset):
            offset += len(block)
    except OSError:
        pass
    return offset


def write_durably(fd: int, buffers: Sequence[Buffer], offset: int) -> None:
    """Write the buffers one after another at `offset`; they are durable on return. Raises OSError.

    Where the kernel has RWF_DSYNC and one call takes all buffers, write and fdatasync are one system call. Each
    system call ends in a wait for the interpreter lock, so under a busy event loop one call instead of two
    doubles the number of syncs a second.
    """
    if DSYNC is not None and len(buffers) <= IOV_MAX:
        try:
            written = os.pwritev(fd, buffers, offset, DSYNC)
        except OSError as error:
            if error.errno not in _DSYNC_UNSUPPORTED:
                raise
            written = 0
        buffers = _rest(buffers, written)
        if not buffers:
            return
        offset += written
    write_all(fd, buffers, offset)
    os.fdatasync(fd)


def drop_cached(fd: int) -> None:
    """Tell the kernel that what is durable of a file is not read again soon, so that it keeps others in memory.

    A node writes its journal and its snapshots to be read after a crash, and reads its working storage all the time. In
    a control group all of them share its memory.
    """
    with suppress(OSError):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def write_all(fd: int, buffers: Sequence[Buffer], offset: int) -> None:
    """Write the buffers one after another at `offset`, as many calls as it takes. Not durable yet."""
    for start in range(0, len(buffers), IOV_MAX):
        chunk = buffers[start : start + IOV_MAX]
        while chunk:
            written = os.pwritev(fd, chunk, offset)
            offset += written
            chunk = _rest(chunk, written)


def _rest(buffers: Sequence[Buffer], written: int) -> Sequence[Buffer]:
    """The buffers without their first `written` bytes (a write may be short)."""
    for position, buffer in enumerate(buffers):
        if len(buffer) > written:
            return [memoryview(buffer)[written:], *buffers[position + 1 :]]
        written -= len(buffer)
    return []


class FolderLock:
    """An exclusive flock on a file that names its holder. The kernel drops it when the process ends, however."""

    def __init__(self, path: Path) -> None:
        """Raises JournalLocked if the lock is held."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        not_for_forks(self._fd)  # a child that outlives this process would keep the folder
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(self._fd, 32, 0).strip()
            self.release()
            raise JournalLocked(path, int(text) if text.isdigit() else None) from None
        except BaseException:
            self.release()
            raise
        with suppress(PermissionError):  # another user's, who has let this one in
            os.fchmod(self._fd, FILE_MODE)
        # The pid only informs: a full disk must not keep a node from starting.
        with suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        let_go(self._fd)
        os.close(self._fd)
