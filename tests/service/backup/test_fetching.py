"""The client's side of a backup against nodes that send what they should not: nothing is written."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quorate.runtime.handshake import LocalNode
from quorate.runtime.listener import ClientConnection, ClientListener
from quorate.service.backup import fetching
from quorate.service.backup.archive import BackupReader
from quorate.service.backup.fetching import fetch_backup
from quorate.service.client.aio import Connection
from quorate.service.client.errors import Refused, Unreachable
from quorate.service.requests import (
    AskStatus,
    BackupBegun,
    BackupPiece,
    Code,
    Failure,
    Status,
    TakeBackup,
    TakePiece,
    decode_request,
    encode,
)

DATA = b"state" * 1000
RIGHT = hashlib.sha256(DATA).digest()


def begun(request: Any, **changes: Any) -> BackupBegun:
    fields = {"index": 5, "term": 1, "kind": "kv", "revision": 5, "oldest_revision": 0, "time_ns": 0, "release": "0"}
    return BackupBegun(
        request.id, **{"cluster": "c", "protocol": "raft", "node": 1, "role": "leader", **fields, **changes}
    )


def honest(request: Any, number: int) -> Any:
    """As a node would, in two pieces."""
    if isinstance(request, TakeBackup):
        return begun(request)
    return [
        BackupPiece(request.id, DATA[:2500]),
        BackupPiece(request.id, DATA[2500:]),
        BackupPiece(request.id, b"", RIGHT),
    ][number]


def lying(kind: type, answer: Callable[[Any], Any], at: int = 0) -> Callable[[Any, int], Any]:
    return lambda request, number: (
        answer(request) if isinstance(request, kind) and number == at else honest(request, number)
    )


LIES: dict[str, tuple[Callable[[Any, int], Any], str]] = {
    "another digest": (lying(TakePiece, lambda r: BackupPiece(r.id, b"", bytes(32)), 2), "its digest is another one"),
    "a piece too few": (lying(TakePiece, lambda r: BackupPiece(r.id, b"", RIGHT), 1), "its digest is another one"),
    "neither data nor digest": (lying(TakePiece, lambda r: BackupPiece(r.id, b"")), "no piece of a backup"),
    "data and digest": (lying(TakePiece, lambda r: BackupPiece(r.id, DATA, RIGHT)), "no piece of a backup"),
    "a piece of another request": (lying(TakePiece, lambda r: BackupPiece(99, DATA)), "answered request 99"),
    "a head in place of a piece": (lying(TakePiece, begun), "no piece of a backup"),
    "a piece in place of a head": (lying(TakeBackup, lambda r: BackupPiece(r.id, DATA)), "that was not begun"),
    "another node": (lying(TakeBackup, lambda r: begun(r, node=2)), "says that it is node 2"),
    "bytes": (lying(TakePiece, lambda r: b"\xc1"), "what is no part of a backup"),
    "a piece that is too large": (lying(TakePiece, lambda r: BackupPiece(r.id, bytes(300_000))), "no part of a backup"),
    "a cut": (lying(TakePiece, lambda r: Failure(r.id, Code.UNAVAILABLE, "cut short"), 1), "cut short"),
    "silence": (lying(TakePiece, lambda r: None, 1), "gave no answer"),
}


async def fetch(answers: Callable[[Any, int], Any], path: Path) -> None:
    """From a node that answers so. ``number``: of the piece that is asked for."""
    counts: dict[ClientConnection, int] = {}

    def on_frames(connection: ClientConnection, frames: list[bytes]) -> None:
        for request in map(decode_request, frames):
            if isinstance(request, AskStatus):
                answer: Any = Status(request.id, 1, "raft", "leader", 1, 1, 5, 5, 1)
            else:
                answer = answers(request, counts.get(connection, 0))
                counts[connection] = counts.get(connection, 0) + isinstance(request, TakePiece)
            if answer is not None:
                connection.reply(answer if isinstance(answer, bytes) else encode(answer))

    me = LocalNode("c", "raft", 1, frozenset((1,)), None)
    listener = ClientListener("127.0.0.1", 0, me, lambda c: None, on_frames, lambda c, why: None)
    await listener.start()
    try:
        async with Connection(f"127.0.0.1:{listener.port}", timeout_s=5) as client:
            await fetch_backup(client, path, lambda head, size_bytes: None)
    finally:
        await listener.stop()


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "b"
    assert not list(tmp_path.glob("*.unfinished")), "nothing is left"


def test_an_honest_node(path: Path) -> None:
    asyncio.run(fetch(honest, path))
    with BackupReader(path) as reader:
        assert reader.read() == DATA
        reader.finish()


@pytest.mark.parametrize("lie", LIES)
def test_what_a_node_sends_is_checked(lie: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PIECE_S_MAX", 0.1)
    answers, why = LIES[lie]
    with pytest.raises(Unreachable, match=why):
        asyncio.run(fetch(answers, path))
    assert not path.exists()


def test_what_there_is_no_backup_of_is_refused(path: Path) -> None:
    with pytest.raises(Refused, match="its blocks are"):
        asyncio.run(fetch(lying(TakeBackup, lambda r: Failure(r.id, Code.MALFORMED, "its blocks are")), path))
