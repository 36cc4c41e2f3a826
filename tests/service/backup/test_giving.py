"""The node's side of a backup: bounded however slow the client, one at a time, and given back."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from typing import Any, BinaryIO

import pytest

from quorate.service.backup import giving
from quorate.service.backup.giving import PIECES_MAX, Backups
from quorate.service.requests import PIECE_BYTES_MAX, BackupBegun, BackupPiece, Code, Failure, TakeBackup, TakePiece

BEGUN = BackupBegun(1, "c", "raft", 1, "leader", 5, 1, "kv", 5, 0, 0, "0")


class Caller:
    """A client that keeps what it is told."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[Any] = asyncio.Queue()

    def reply(self, response: Any) -> None:
        self.answers.put_nowait(response)

    async def answer(self) -> Any:
        async with asyncio.timeout(20):
            return await self.answers.get()


class Source:
    """A state of so many pieces, and how many of them were written."""

    def __init__(self, pieces: int, fails_at: int = -1) -> None:
        self.data = [bytes((number,)) * PIECE_BYTES_MAX for number in range(pieces)]
        self.written = 0
        self.ended = threading.Event()
        self.fails_at = fails_at

    def begin(self, request: TakeBackup) -> Any:
        return BEGUN, self.write

    def write(self, file: BinaryIO) -> None:
        try:
            for number, piece in enumerate(self.data):
                if number == self.fails_at:
                    raise ValueError("the store was replaced")
                file.write(piece)
                self.written += 1
        finally:
            self.ended.set()


async def rest(backups: Backups, caller: Caller) -> tuple[bytes, Any]:
    """All pieces that come, and what ends them."""
    data, number = b"", 2
    while True:
        backups.piece(caller, TakePiece(number))
        answer = await caller.answer()
        if isinstance(answer, Failure) or answer.digest:
            return data, answer
        assert answer.id == number
        data += answer.data
        number += 1


async def ended(source: Source) -> None:
    await asyncio.to_thread(source.ended.wait, 20)
    assert source.ended.is_set()


@pytest.mark.parametrize("pieces", [0, 1, 9])
def test_all_of_it_comes_with_its_digest(pieces: int) -> None:
    async def run() -> None:
        source, caller = Source(pieces), Caller()
        backups = Backups(source.begin)
        backups.begin(caller, TakeBackup(1))
        assert await caller.answer() == BEGUN
        data, last = await rest(backups, caller)
        whole = b"".join(source.data)
        assert data == whole
        assert isinstance(last, BackupPiece)
        assert last.digest == hashlib.sha256(whole).digest()
        backups.piece(caller, TakePiece(99))
        assert (await caller.answer()).why == giving.NONE_BEGUN

    asyncio.run(run())


def test_a_client_that_takes_nothing_fills_no_memory_and_others_wait_their_turn() -> None:
    async def run() -> None:
        source, caller, other = Source(50), Caller(), Caller()
        backups = Backups(source.begin)
        backups.begin(caller, TakeBackup(1))
        await caller.answer()
        backups.piece(caller, TakePiece(2))
        assert isinstance(await caller.answer(), BackupPiece)
        await asyncio.sleep(0.2)  # for as long as it likes
        assert source.written <= PIECES_MAX + 1
        backups.begin(other, TakeBackup(1))
        assert (await other.answer()).code is Code.BUSY
        backups.closed(other)  # it had none
        backups.closed(caller)
        await ended(source)
        assert source.written <= PIECES_MAX + 2
        backups.begin(other, TakeBackup(1))
        assert await other.answer() == BEGUN
        backups.stop()

    asyncio.run(run())


def test_a_client_that_gave_up_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving, "PATIENCE_S", 0.05)

    async def run() -> None:
        source, caller = Source(50), Caller()
        backups = Backups(source.begin)
        backups.begin(caller, TakeBackup(1))
        await caller.answer()
        await ended(source)
        assert source.written < 50
        backups.piece(caller, TakePiece(2))
        assert (await caller.answer()).why == giving.NONE_BEGUN

    asyncio.run(run())


def test_what_fails_in_the_middle_is_told_in_words() -> None:
    async def run() -> None:
        source, caller = Source(5, fails_at=3), Caller()
        backups = Backups(source.begin)
        backups.begin(caller, TakeBackup(1))
        await caller.answer()
        data, last = await rest(backups, caller)
        assert data == b"".join(source.data[:3])
        assert (last.code, last.why) == (Code.UNAVAILABLE, "the backup was cut short: the store was replaced")

    asyncio.run(run())


def test_two_pieces_at_once_are_not_asked_for() -> None:
    async def run() -> None:
        source, caller = Source(0), Caller()
        source.write = lambda file: source.ended.wait(20)  # type: ignore[method-assign,assignment,return-value]
        backups = Backups(source.begin)
        backups.begin(caller, TakeBackup(1))
        await caller.answer()
        backups.piece(caller, TakePiece(2))
        backups.piece(caller, TakePiece(3))
        refused = await caller.answer()
        assert (refused.id, refused.code) == (2, Code.MALFORMED)
        source.ended.set()
        assert (await caller.answer()).id == 3

    asyncio.run(run())
