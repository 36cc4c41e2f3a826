"""The simulated snapshot store of one node: its snapshots, and one that is arriving piece by piece.

One goes when another is taken and the journal names a newer one, as at a real node, and never because one has come:
until the journal names that, a restart needs the one before.

It survives crashes, as what it files is durable before a job's result says so. A piece at any offset but the next one
changes nothing; the result says which is wanted.

Each file has a digest, and whatever is read of it is verified first, as a real node does. A file that was spoiled is
refused; a disk without room takes no file for a while.
"""

from hashlib import sha256

from quorate.kernel import Failed
from quorate.parts.log.pieces import tree_of
from quorate.parts.log.replicated import Chunk, Piece, ReadChunk, ReadPiece, SnapshotInfo, WriteChunk, Written


class Spoiled(Exception):
    """A snapshot's file is not what was written. The text says which."""


class SimSnapshots:
    """Snapshots by index."""

    def __init__(self) -> None:
        self._files: dict[int, tuple[int, bytes]] = {}
        self._digests: dict[int, bytes] = {}
        self.spoiled: set[int] = set()
        """By index, those whose bytes have changed: what a store must find out by itself."""
        self.full: str | None = None
        """Why no file is taken, while none is."""
        self.unfit = 0
        """How many files or pieces did not fit."""
        self._arriving: tuple[int, int, int, bytes] | None = None
        self._pieces = bytearray()
        self.taken = self.received = 0
        self.pieces = 0
        """How many were stored of snapshots that came in several."""
        self.cut = 0
        """How often one that arrived in several pieces stopped half-way: a crash, or another came instead."""

    @property
    def indexes(self) -> list[int]:
        """Of the snapshots that are here, ascending."""
        return sorted(self._files)

    def data(self, index: int) -> bytes | None:
        """The bytes of a snapshot. Raises Spoiled."""
        found = self._files.get(index)
        if found is None:
            return None
        self.verify(index)
        return found[1]

    def verify(self, index: int) -> None:
        """Compare the file with its digest. Raises Spoiled."""
        if sha256(self._files[index][1]).digest() != self._digests[index]:
            raise Spoiled(f"the snapshot at index {index}: the digest of the payload is wrong")

    def spoil(self, index: int, at: float) -> bool:
        """Flip a bit of a file; ``at`` is where, from 0 to 1. Whether there was one to flip."""
        term, data = self._files[index]
        if not data or index in self.spoiled:
            return False
        bit = min(len(data) * 8 - 1, int(at * len(data) * 8))
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        self._files[index] = (term, bytes(changed))
        self.spoiled.add(index)
        return True

    def file(
        self,
        index: int,
        term: int,
        data: bytes,
        keep_index: int = 0,
        piece_bytes: int = 0,
        held: tuple[int, ...] = (),
    ) -> SnapshotInfo | Failed:
        """Keep a snapshot that the App wrote, and those from ``keep_index`` on or at ``held``.

        Failed where there is no room.
        """
        if self.full is not None:
            self.unfit += 1
            return Failed(self.full)
        self.taken += 1
        self._keep(index, term, data)
        self.discard(keep_index, held)
        root = tree_of(data, piece_bytes).root if piece_bytes else b""
        return SnapshotInfo(index, term, len(data), sha256(data).digest(), root)

    def read(self, job: ReadChunk) -> Chunk | Failed:
        """A piece of a snapshot; Failed where there is none at that index, or not that far. Raises Spoiled."""
        found = self._files.get(job.index)
        if found is None:
            return Failed(f"no snapshot at index {job.index}")
        term, data = found
        if not 0 <= job.offset <= len(data):
            return Failed(f"offset {job.offset} is outside the snapshot's {len(data)} bytes")
        self.verify(job.index)
        return Chunk(job.index, term, job.offset, data[job.offset : job.offset + job.size_bytes_max], len(data))

    def read_piece(self, job: ReadPiece) -> Piece | Failed:
        """The same with its proof; Failed also where the file is not the one whose root is asked for."""
        chunk = self.read(ReadChunk(job.index, job.offset, job.piece_bytes))
        if isinstance(chunk, Failed):
            return chunk
        tree = tree_of(self._files[job.index][1], job.piece_bytes)
        if tree.root != job.root or job.offset % job.piece_bytes or job.offset >= max(1, chunk.total_bytes):
            return Failed(f"the snapshot at index {job.index} is another one, or has no such piece")
        return Piece(chunk, tree.proof(job.offset // job.piece_bytes))

    def write(self, job: WriteChunk) -> Written | Failed:
        """Take a piece that a peer sent. The last one files the snapshot.

        Failed where it is not the one wanted, or where there is no room.
        """
        found = self._files.get(job.index)
        if found is not None and found[0] == job.term:
            return Written(job.index, job.term, len(found[1]), True)
        if self.full is not None:
            self.unfit += 1
            return Failed(self.full)
        arriving = (job.index, job.term, job.total_bytes, job.digest)
        if self._arriving != arriving:
            self.cut += self.is_arriving
            self._arriving = arriving
            self._pieces = bytearray()
        if job.offset == len(self._pieces):
            self._pieces += job.data
        offset = len(self._pieces)
        self.pieces += len(job.data) < job.total_bytes
        if offset < job.total_bytes:
            return Written(job.index, job.term, offset, False)
        data = bytes(self._pieces)
        self.forget_arriving()
        if job.digest and sha256(data).digest() != job.digest:
            return Failed(f"the snapshot at index {job.index} that came has another digest than the one wanted")
        self.received += 1
        self._keep(job.index, job.term, data)
        return Written(job.index, job.term, offset, True)

    @property
    def is_arriving(self) -> bool:
        """Whether a part of one is here."""
        return bool(self._pieces)

    def forget_arriving(self) -> None:
        """Lose what arrived of an unfinished snapshot; a crash may do that."""
        self._arriving = None
        self._pieces = bytearray()

    def _keep(self, index: int, term: int, data: bytes) -> None:
        self._files[index] = (term, data)
        self._digests[index] = sha256(data).digest()
        self.spoiled.discard(index)

    def term(self, index: int) -> int:
        """Of a snapshot that is here."""
        return self._files[index][0]

    def keep_alone(self, index: int) -> None:
        """All others go."""
        self.discard(max(self._files, default=0) + 1, (index,))

    def discard(self, below_index: int, held: tuple[int, ...]) -> None:
        """Those below an index go, but those at ``held``."""
        for old in [index for index in self._files if index < below_index and index not in held]:
            del self._files[old], self._digests[old]
            self.spoiled.discard(old)
