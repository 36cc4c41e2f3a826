"""Fetching: the client's side of a backup: from one node, over a link of its own, into a file.

How it works. All endpoints are asked how they are, and the backup is begun at a node that has applied whatever any of
them knows to be committed: so it has all that was acknowledged before it began, if the leader is among them. Nodes
that do not lead are asked first. A node that cannot, or whose link breaks, is followed by the next one, from the
beginning.

What a node sends is bounded by the frames of the link and the pieces that were asked for; each has a time.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from quorate.service.backup.archive import BackupEnd, BackupHead, BackupWriter
from quorate.service.client.administration import Administration
from quorate.service.client.errors import Refused, Unreachable
from quorate.service.client.link import ANSWER_LIMITS, DIAL_TIMEOUT_S, Link, dial
from quorate.service.requests import (
    DECODE_ERRORS,
    BackupBegun,
    BackupPiece,
    Code,
    Failure,
    Status,
    TakeBackup,
    TakePiece,
    decode_backup_answer,
    encode,
)

PIECE_S_MAX: Final = 30.0
"""How long a node may take for a piece: its disk may be slow."""
LED: Final = ("leader", "primary")
NO_PROOF: Final = (
    "the nodes of this cluster may lie, and a backup from one of them is its word alone. Read the data by votes "
    "(quorate get --prefix '' --json); or say --faults 0 to take one node's word, which the file will say"
)


class FetchedBackup(NamedTuple):
    """A backup that is in its file."""

    head: BackupHead
    end: BackupEnd
    address: str


async def fetch_backup(
    client: Administration,
    path: Path,
    on_progress: Callable[[BackupHead, int], None],
    *,
    takes_one_word: bool = False,
    replaces: bool = False,
) -> FetchedBackup:
    """Have a node of the client's cluster give a backup, and write it. ``on_progress``: with the bytes so far.

    Raises Refused where nodes may lie (unless this ``takes_one_word``) or have nothing to back up; Unreachable where
    none gives one; FileExistsError, OSError for the file.
    """
    if await client.learn_whether_nodes_may_lie() and not takes_one_word:
        raise Refused(NO_PROOF)
    statuses = [(address, said) for address, said in await client.statuses() if isinstance(said, Status)]
    # One that lies could name an index that nobody ever reaches; and there it is one node's word in any case.
    at_least = 0 if client.is_byzantine else max((status.commit_index for _, status in statuses), default=0)
    why = "no node answered"
    for address, _ in sorted(statuses, key=lambda one: (one[1].applied_index < at_least, one[1].role in LED)):
        taking = _Taking(address, client.cluster, at_least, client.timeout_s)
        try:
            return await taking.run(path, on_progress, client.is_byzantine, replaces)
        except Unreachable as error:
            why = str(error)
        finally:
            taking.close()
    raise Unreachable(f"no node gives a backup: {why}")


class _Taking:
    """From one node."""

    def __init__(self, address: str, cluster: str, at_least: int, timeout_s: float) -> None:
        self._address = address
        self._cluster = cluster
        self._at_least = at_least
        self._timeout_s = timeout_s
        self._link: Link | None = None
        self._answers: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._number = 0

    async def run(
        self, path: Path, on_progress: Callable[[BackupHead, int], None], is_one_word: bool, replaces: bool
    ) -> FetchedBackup:
        self._link, node = await dial(
            self._address, self._on_frames, min(self._timeout_s, DIAL_TIMEOUT_S), self._cluster, ANSWER_LIMITS
        )
        self._link.lost.add_done_callback(lambda _: self._answers.put_nowait(None))
        head = await self._begun(node, is_one_word)
        digest = hashlib.sha256()
        with BackupWriter(path, head, replaces=replaces) as writer:
            self._ask()
            while (piece := await self._piece()).data:
                self._ask()  # the next one travels while this one is written
                digest.update(piece.data)
                writer.write(piece.data)
                on_progress(head, writer.size_bytes)
            if piece.digest != digest.digest():
                raise Unreachable(f"{self._address}: what came is not what it sent: its digest is another one")
            return FetchedBackup(head, writer.finish(), self._address)

    def close(self) -> None:
        """Hang up: the node gives the rest back."""
        if self._link is not None:
            self._link.close("done")

    async def _begun(self, node: int, is_one_word: bool) -> BackupHead:
        until = asyncio.get_running_loop().time() + self._timeout_s
        while True:
            self._send(TakeBackup(self._next(), self._at_least))
            answer = await self._answer(self._timeout_s)
            if isinstance(answer, BackupBegun):
                break
            if not isinstance(answer, Failure) or answer.code in (Code.MALFORMED, Code.STATELESS):
                why = answer.why if isinstance(answer, Failure) else "sent a piece of a backup that was not begun"
                raise (Refused if isinstance(answer, Failure) else Unreachable)(f"{self._address}: {why}")
            if asyncio.get_running_loop().time() >= until:
                raise Unreachable(f"{self._address}: {answer.why}")
            await asyncio.sleep(0.05)
        if answer.node != node:
            raise Unreachable(f"{self._address}: node {node} is there, and it says that it is node {answer.node}")
        fields = {name: value for name, value in msgspec.structs.asdict(answer).items() if name != "id"}
        return BackupHead(**fields, is_one_word=is_one_word)

    def _ask(self) -> None:
        self._send(TakePiece(self._next()))

    async def _piece(self) -> BackupPiece:
        answer = await self._answer(PIECE_S_MAX)
        if isinstance(answer, Failure):
            raise Unreachable(f"{self._address}: {answer.why}")
        if not isinstance(answer, BackupPiece) or bool(answer.data) == bool(answer.digest):
            raise Unreachable(f"{self._address} sent what is no piece of a backup")
        return answer

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _send(self, request: TakeBackup | TakePiece) -> None:
        assert self._link is not None
        self._link.send(encode(request))

    async def _answer(self, timeout_s: float) -> BackupBegun | BackupPiece | Failure:
        try:
            async with asyncio.timeout(timeout_s):
                frame = await self._answers.get()
        except TimeoutError:
            raise Unreachable(f"{self._address} gave no answer within {timeout_s:g} s") from None
        if frame is None:
            assert self._link is not None
            raise Unreachable(f"{self._address} hung up: {self._link.why}")
        try:
            answer: BackupBegun | BackupPiece | Failure = decode_backup_answer(frame)
        except DECODE_ERRORS as error:
            raise Unreachable(f"{self._address} sent what is no part of a backup: {error}") from None
        if answer.id != self._number and not isinstance(answer, Failure):
            raise Unreachable(f"{self._address} answered request {answer.id} when {self._number} was asked")
        return answer

    def _on_frames(self, frames: list[bytes]) -> None:
        for frame in frames:
            self._answers.put_nowait(frame)
