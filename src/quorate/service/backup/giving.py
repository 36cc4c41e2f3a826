"""Giving: the node's side of a backup, which its client takes piece by piece.

How it works. The state is captured as for a snapshot, which is quick, and a thread writes it into a pipe of a few
pieces that the client empties, one request a piece. So a node holds a megabyte for it, however large the state and
however slow the client. A client that asks for nothing for a while has given up, and the capture is given back: until
then the store keeps what was compacted since, and an object copies what changes.

Nothing of the backup goes through the log, and the thread lets the loop run between two pieces.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, BinaryIO, Final, cast
from typing import Protocol as Interface

from quorate.service.requests import (
    PIECE_BYTES_MAX,
    BackupBegun,
    BackupPiece,
    Code,
    Failure,
    TakeBackup,
    TakePiece,
)

log = logging.getLogger("quorate.backup")

PIECES_MAX: Final = 4
"""Between the thread and the client."""
PATIENCE_S: Final = 30.0
"""How long a client may take from one piece to the next."""
PAUSE_S: Final = 0.004
"""Between two pieces of the thread's: a backup is not urgent, and clients need the processor. Some 40 MB/s at most."""
ONE_AT_A_TIME: Final = "this node gives a backup to somebody already: take it from another node, or a little later"
NONE_BEGUN: Final = "no backup was begun on this link, or it has ended"


class BackupCaller(Interface):
    """A client, and the way to it."""

    def reply(self, response: Any) -> None:
        """One answer to one request; one that is gone is no error."""


class _Stopped(Exception):
    """Nobody wants the rest."""


class _Pipe(io.RawIOBase):
    """What the thread writes to. It waits while the client is behind."""

    def __init__(self, on_piece: Callable[[], None]) -> None:
        self._on_piece = on_piece
        self._buffer = bytearray()
        self._pieces: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._is_stopped = False
        self._digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        self._digest.update(view)
        self._buffer += view
        while len(self._buffer) >= PIECE_BYTES_MAX:
            self._put(bytes(self._buffer[:PIECE_BYTES_MAX]))
            del self._buffer[:PIECE_BYTES_MAX]
        return len(view)

    def finish(self) -> bytes:
        """That was all; the digest."""
        if self._buffer:
            self._put(bytes(self._buffer))
            self._buffer.clear()
        return self._digest.digest()

    def _put(self, piece: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or len(self._pieces) < PIECES_MAX)
            if self._is_stopped:
                raise _Stopped
            self._pieces.append(piece)
        self._on_piece()
        time.sleep(PAUSE_S)

    def take(self) -> bytes | None:
        """The next piece, if it is there. On the loop."""
        with self._changed:
            piece = self._pieces.popleft() if self._pieces else None
            self._changed.notify_all()
        return piece

    def stop(self) -> None:
        """The thread's next write raises."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()


class _Giving:
    """One backup under way. On the loop, but for ``_write``."""

    def __init__(
        self, caller: BackupCaller, write: Callable[[BinaryIO], None], on_over: Callable[[_Giving], None]
    ) -> None:
        self.caller = caller
        self._loop = asyncio.get_running_loop()
        self._write_state = write
        self._on_over = on_over
        self._pipe = _Pipe(lambda: self._later(self._give))
        self._asked: int | None = None
        """The request that waits for a piece."""
        self._end: bytes | Failure | None = None
        self._patience = self._loop.call_later(PATIENCE_S, self._tire)
        self._is_over = False
        threading.Thread(target=self._write, name="quorate-backup", daemon=True).start()

    def ask(self, request: int) -> None:
        """The client wants the next piece; one at a time."""
        if self._asked is not None:
            self.caller.reply(Failure(self._asked, Code.MALFORMED, "another piece was asked for before it came"))
        self._asked = request
        self._patience.cancel()
        self._give()

    def stop(self) -> None:
        """Nobody wants the rest."""
        if not self._is_over:
            self._is_over = True
            self._patience.cancel()
            self._pipe.stop()
            self._on_over(self)

    def _tire(self) -> None:
        log.warning("a backup was given up: its client asked for nothing for %g s", PATIENCE_S)
        self.stop()

    def _give(self) -> None:
        if self._asked is None or self._is_over:
            return
        request = self._asked
        if (piece := self._pipe.take()) is not None:
            self._asked = None
            self._patience = self._loop.call_later(PATIENCE_S, self._tire)
            self.caller.reply(BackupPiece(request, piece))
        elif self._end is not None:
            self._asked = None
            end = self._end
            self.stop()
            if isinstance(end, Failure):
                self.caller.reply(Failure(request, end.code, end.why))
            else:
                self.caller.reply(BackupPiece(request, b"", end))

    def _write(self) -> None:
        """In a thread."""
        end: bytes | Failure
        try:
            self._write_state(cast(BinaryIO, self._pipe))
            end = self._pipe.finish()
        except _Stopped:
            return
        except Exception as error:  # of a disk, or a state that was replaced meanwhile: the client may begin anew
            end = Failure(0, Code.UNAVAILABLE, f"the backup was cut short: {error}")
        self._later(lambda: self._ended(end))

    def _ended(self, end: bytes | Failure) -> None:
        self._end = end
        self._give()

    def _later(self, call: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)


class Backups:
    """Those that one node gives: one at a time.

    ``begin`` has what is to be said of the state, and what writes it, as it is now; or why there is none.
    """

    def __init__(self, begin: Callable[[TakeBackup], tuple[BackupBegun, Callable[[BinaryIO], None]] | Failure]) -> None:
        self._begin = begin
        self._giving: _Giving | None = None

    def begin(self, caller: BackupCaller, request: TakeBackup) -> None:
        """A client wants one."""
        if self._giving is not None and self._giving.caller is not caller:
            caller.reply(Failure(request.id, Code.BUSY, ONE_AT_A_TIME))
            return
        if self._giving is not None:
            self._giving.stop()
        begun = self._begin(request)
        if isinstance(begun, Failure):
            caller.reply(begun)
            return
        head, write = begun
        self._giving = _Giving(caller, write, self._over)
        caller.reply(head)

    def piece(self, caller: BackupCaller, request: TakePiece) -> None:
        """It wants the next piece."""
        if self._giving is None or self._giving.caller is not caller:
            caller.reply(Failure(request.id, Code.UNAVAILABLE, NONE_BEGUN))
        else:
            self._giving.ask(request.id)

    def closed(self, caller: BackupCaller) -> None:
        """Its link is gone."""
        if self._giving is not None and self._giving.caller is caller:
            self._giving.stop()

    def stop(self) -> None:
        """The node stops."""
        if self._giving is not None:
            self._giving.stop()

    def _over(self, giving: _Giving) -> None:
        if self._giving is giving:
            self._giving = None
