"""What every replicated log says upwards and asks of its shell, whichever protocol keeps it.

Outputs go to the App in order. Jobs go to the shell, which does them with its snapshot store; each names its result.
"""

from typing import Any, Final, TypeAlias, runtime_checkable
from typing import Protocol as Interface

import msgspec
from msgspec import UNSET, UnsetType

from quorate.kernel import Path
from quorate.parts.log.entries import Entry
from quorate.parts.log.pieces import PieceProof
from quorate.parts.wire import Index, Natural, Term

# --- outputs ---


class Decided(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, repr_omit_defaults=True):
    """Entries ``first_index``, ``first_index + 1``, ... are decided for ever.

    ``proof`` shows that to others, such as a certificate, where the protocol has one.
    """

    first_index: int
    entries: tuple[Entry, ...] | list[Entry]
    proof: Any = None


class Restored(msgspec.Struct, frozen=True, gc=False):
    """The state is to be replaced by the snapshot at this index; later outputs build on it."""

    index: int
    term: int


class Stateless(msgspec.Struct, frozen=True, gc=False):
    """This node keeps no state, for good (a witness): it is given no entries and no snapshots, and answers nobody.

    It is said again when what is decided may have changed who votes, or which nodes there are.
    """


class ReadReady(msgspec.Struct, frozen=True, gc=False):
    """Reads with these tokens may be served from the state as it is after all earlier outputs."""

    tokens: tuple[int, ...]


class ReadFailed(msgspec.Struct, frozen=True, gc=False):
    """Reads with these tokens cannot be confirmed now; nothing was read."""

    tokens: tuple[int, ...]
    why: str


class Dropped(msgspec.Struct, frozen=True, gc=False):
    """These submitted values were not taken in: they are in no log, and will not be decided."""

    values: tuple[bytes, ...]
    why: str


class Busy(Dropped, frozen=True, gc=False):
    """Likewise, and the reason is that too much waits already: a little later there may be room."""


class Leads(msgspec.Struct, frozen=True, gc=False):
    """Who leads, as far as this node knows; None while nobody does."""

    term: int
    leader: int | None


Output: TypeAlias = Decided | Restored | Stateless | ReadReady | ReadFailed | Dropped | Leads

# --- jobs and their results ---


class TakeSnapshot(msgspec.Struct, frozen=True, gc=False):
    """Make the App's state durable, which is exactly that at ``index``, as a mark or as a file. Result: SnapshotInfo.

    Snapshots below ``keep_index`` may go then; None: those below the one that the journal named when the job began.
    Those at ``held`` stay, if there are any: they are on their way to other nodes.
    """

    index: int
    term: int
    keep_index: int | None = None
    held: tuple[int, ...] | UnsetType = UNSET


class TakeCommonSnapshot(TakeSnapshot, frozen=True, kw_only=True, gc=False):
    """The same, as a file that all nodes have alike which have this snapshot, hashed in pieces of ``piece_bytes``."""

    piece_bytes: int


MARKS: Final = ("marks", 0)


def marks_of(path: Path) -> Path:
    """Where the marks of a core's App are kept: beside its snapshots, as if they were those of a child."""
    return (*path, MARKS)


class ReadChunk(msgspec.Struct, frozen=True, gc=False):
    """Read a piece of the snapshot as it is sent to others; of a mark that is made first. Result: Chunk."""

    index: int
    offset: int
    size_bytes_max: int


class WriteChunk(msgspec.Struct, frozen=True, gc=False):
    """Store a piece of a snapshot that a peer sends; the last one checks and files it. Result: Written.

    ``digest`` is the SHA-256 that the payload must have, where the core knows it; a peer's own word is no proof.
    """

    index: int
    term: int
    offset: int
    data: bytes
    total_bytes: int
    digest: bytes = b""


class Screen(msgspec.Struct, frozen=True, gc=False):
    """Say which of these values would change nothing if they were decided now or later. Result: Screened.

    Such are the commands that the sessions have answered, which somebody may bring again.
    """

    values: tuple[bytes, ...]


class Screened(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The places of those values, ascending."""

    spent: tuple[Natural, ...]


class ReadPiece(msgspec.Struct, frozen=True, gc=False):
    """Read a piece of the stored snapshot, with its proof. Result: Piece.

    ``root`` is that of its pieces (``parts/log/pieces.py``): a file that has become another one is not served.
    """

    index: int
    offset: int
    piece_bytes: int
    root: bytes


class SnapshotInfo(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A snapshot that is durable. ``digest``: SHA-256 of the App's state in it, equal where the states are.

    ``root``: that of its file's pieces, where the job asked for it.
    """

    index: Index
    term: Term
    size_bytes: Natural
    digest: bytes = b""
    root: bytes = b""


class Chunk(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A piece of a snapshot of ``total_bytes``."""

    index: Index
    term: Term
    offset: Natural
    data: bytes
    total_bytes: Natural


class Piece(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A piece of a snapshot, and the proof that it is in it."""

    chunk: Chunk
    proof: PieceProof


class Written(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The next offset that is wanted; ``complete`` when the snapshot is whole, checked and durable."""

    index: Index
    term: Term
    next_offset: Natural
    complete: bool


class Journaled:
    """What a Core is besides, if all of its log is in its records: the node took no snapshot of anything beyond."""

    @property
    def stands_on(self) -> int:
        """After recovery: the index of the snapshot that a start restores; 0: none."""
        raise NotImplementedError(f"{type(self).__name__} does not say from which snapshot its log goes on")

    @property
    def log_end(self) -> int:
        """The last index that is recorded, or that the recorded snapshot stands for."""
        raise NotImplementedError(f"{type(self).__name__} does not say where its log ends")


class Survivor:
    """What a Core is besides, if a new cluster can begin with a state, such as what one node of a lost one has.

    Only where nodes just crash: what one node that may lie has proves nothing to anybody.
    """

    def surviving(self) -> list[Entry]:
        """After recovery: the entries after its snapshot that a leader would go on with who had heard nobody else.

        Whether they are known to be decided or not: they may be, and others may have told clients so. Raises ValueError
        where the node has no state: it is a witness.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what survives")

    @staticmethod
    def founded_on(index: int, term: int, members: tuple[int, ...]) -> list[Any]:
        """The records of a founder of a cluster of these members, who all have a snapshot at ``index``, above 0."""
        raise NotImplementedError("a core that survives says with which records its node begins anew")


@runtime_checkable
class KeepsLog(Interface):
    """The config of a protocol that keeps its log in memory."""

    def within(self, log_bytes_max: int, /) -> Any:
        """The same with no more than so many bytes of log in memory."""
