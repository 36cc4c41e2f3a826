"""What native clients and nodes say to each other, and what a client's commands look like in the log.

A request carries an ``id`` that its answer repeats; the id means nothing else. A command travels as the very bytes that
go into the log (``LogCommand``), made once by the client and opaque to the protocol's core: a retry sends the same
bytes again, with the same session and serial, which is what makes it safe (Ongaro's dissertation §6.3).

Where nodes may lie, what travels and what is in the log is several LogCommands under the client's signature
(``parts/requests.py``), and one Results answers them all.
"""

from enum import StrEnum
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from quorate.kernel import NODE_ID_MAX, NodeId
from quorate.parts.crypto.keys import Public
from quorate.parts.log.configuration import ADDRESS_CHARACTERS_MAX, MEMBERS_MAX, Nodes, Voters
from quorate.parts.requests import COMMANDS_MAX, REQUEST_BYTES_MAX
from quorate.parts.wire import Natural

COMMAND_BYTES_MAX: Final = 1_572_864
"""1.5 MiB, etcd's default limit of a request."""
CHANGE_BYTES_MAX: Final = 16_384
"""A configuration of as many members, newcomers, leavers, invitations and places as there can be, signed."""

UNANSWERED_PER_SESSION_MAX: Final = 4096
"""Of a session's serials, those from the lowest without an answer to the newest; more are refused when applied."""
REMAINING_MS_MAX: Final = 2**31 - 1
AUDITED_MAX: Final = 4096
"""Names of a state that an audit has."""
ANNOUNCEMENT_BYTES_MAX: Final = 65_536
OPTIONS_BYTES_MAX: Final = 16_384
"""Of a protocol's config."""
NOTE_MAX: Final = 1024
"""Characters of what a node says of itself beside figures."""

PIECE_BYTES_MAX: Final = 256 << 10
"""Of one piece of a backup."""

_Bytes: TypeAlias = Annotated[bytes, Meta(max_length=COMMAND_BYTES_MAX)]
_Name: TypeAlias = Annotated[str, Meta(max_length=256)]
RemainingMs: TypeAlias = Annotated[int, Meta(ge=0, le=REMAINING_MS_MAX)]
"""How long somebody still waits for the answer when the request is sent; 0: for ever, or nobody says."""
_Digest: TypeAlias = Annotated[bytes, Meta(max_length=32)]

# --- in the log ---
# Replicas must agree on what an entry is. Unknown fields are forbidden: to skip a nested one takes a recursion whose
# limit depends on the caller's stack, so that one replica would take what another refuses.


class OpenSession(msgspec.Struct, frozen=True, array_like=True, tag="open", gc=False, forbid_unknown_fields=True):
    """Begin a session; its id is the index of this entry. The nonce finds the client that waits for it."""

    nonce: Natural


class Apply(msgspec.Struct, frozen=True, array_like=True, tag="apply", gc=False, forbid_unknown_fields=True):
    """Apply ``operation`` once. The client has the answers to all serials below ``answered_below``."""

    session: Natural
    serial: Natural
    answered_below: Natural
    operation: _Bytes


class CloseSession(msgspec.Struct, frozen=True, array_like=True, tag="close", gc=False, forbid_unknown_fields=True):
    """The client needs its session no more."""

    session: Natural


class Inspect(msgspec.Struct, frozen=True, array_like=True, tag="inspect", gc=False, forbid_unknown_fields=True):
    """Answer a query at this place of the log, and change nothing: a read that no lying node can hold up.

    No session remembers the answer. Who asks again takes a fresh nonce, so that it is another request. ``call`` tells
    the client's calls apart; 0: it does not say.
    """

    nonce: Natural
    query: _Bytes
    call: Natural = 0


class Audit(msgspec.Struct, frozen=True, array_like=True, tag="audit", gc=False, forbid_unknown_fields=True):
    """The ``node``'s state after entry ``point``: digests by name, in the order of names, at a version of its class."""

    node: NodeId
    point: Natural
    version: Natural
    digests: Annotated[tuple[tuple[_Name, _Digest], ...], Meta(max_length=AUDITED_MAX)]


class Mark(msgspec.Struct, frozen=True, array_like=True, tag="mark", gc=False, forbid_unknown_fields=True):
    """Every node audits its state here."""


class Announce(msgspec.Struct, frozen=True, array_like=True, tag="announce", gc=False, forbid_unknown_fields=True):
    """The ``node``'s state machine says what the others are to know of it before they count on it."""

    node: NodeId
    data: Annotated[bytes, Meta(max_length=ANNOUNCEMENT_BYTES_MAX)]


class Clock(msgspec.Struct, frozen=True, array_like=True, tag="clock", gc=False, forbid_unknown_fields=True):
    """It is so late, by the clock of the node that led (``clocks.py``)."""

    wall_ns: Natural


ClientCommand: TypeAlias = OpenSession | Apply | CloseSession
LogCommand: TypeAlias = ClientCommand | Audit | Mark | Announce | Clock
"""Nodes say the last four themselves, and clients never."""
SignedCommand: TypeAlias = ClientCommand | Inspect
"""What a signed request is made of."""

# --- from client to node ---


class Command(msgspec.Struct, frozen=True, array_like=True, tag="command", gc=False):
    """Have a LogCommand decided; ``entry`` is its encoding. Where nodes may lie: that of a signed request."""

    id: Natural
    entry: Annotated[bytes, Meta(max_length=REQUEST_BYTES_MAX)]
    remaining_ms: RemainingMs = 0


class Reconfigure(msgspec.Struct, frozen=True, array_like=True, tag="members", gc=False):
    """Have other members decided: ``entry`` is a configuration. Where nodes may lie: an administrator's signed request.

    The answer says that it is decided. Members that the log names count later; ``Status`` tells.
    """

    id: Natural
    entry: Annotated[bytes, Meta(max_length=CHANGE_BYTES_MAX)]
    remaining_ms: RemainingMs = 0


class Query(msgspec.Struct, frozen=True, array_like=True, tag="query", gc=False):
    """Read. Linearizable, or ``serializable``: from this node's state as it is, however old."""

    id: Natural
    query: _Bytes
    serializable: bool = False
    remaining_ms: RemainingMs = 0
    asker: Natural = 0
    """What tells this client from others, so that a node finds what it is doing for it; 0: nothing."""


class AskStatus(msgspec.Struct, frozen=True, array_like=True, tag="status", gc=False):
    """How is this node?"""

    id: Natural


class TransferLeadership(msgspec.Struct, frozen=True, array_like=True, tag="transfer", gc=False):
    """Have another node lead: ``to``, or whichever is ready. For the node that leads.

    The answer is a Result with the number of the node that leads then, in decimal digits.
    """

    id: Natural
    to: NodeId | None = None


class AskCluster(msgspec.Struct, frozen=True, array_like=True, tag="cluster", gc=False):
    """Which cluster is this, and who is in it?"""

    id: Natural


class TakeBackup(msgspec.Struct, frozen=True, array_like=True, tag="backup", gc=False):
    """Begin a backup of this node's state, once it has applied the log up to ``at_least``. The answer is a BackupBegun.

    There is one at a time on a link, and on a node. It ends with its last piece, or with the link.
    """

    id: Natural
    at_least: Natural = 0


class TakePiece(msgspec.Struct, frozen=True, array_like=True, tag="backup piece", gc=False):
    """The next piece of the backup that this link has begun. The answer is a BackupPiece."""

    id: Natural


Request: TypeAlias = (
    Command | Reconfigure | Query | AskStatus | AskCluster | TransferLeadership | TakeBackup | TakePiece
)

# --- from node to client ---


class Code(StrEnum):
    """Why a request was not answered with a result."""

    MALFORMED = "malformed"
    """The request cannot be understood; sending it again will not help."""
    TOO_LARGE = "too_large"
    UNAVAILABLE = "unavailable"
    """Not now and not here: no leader. Nothing happened; try again."""
    LEADER_CHANGED = "leader_changed"
    """The leader that had the command leads no more; it may or may not take effect. Send the same again."""
    STORAGE = "storage"
    """This node's disk takes no records; try another node."""
    STATELESS = "stateless"
    """This node is a witness, and answers nobody; try another node."""
    NO_SESSION = "no_session"
    """The session is unknown or has expired; whether its open commands took effect is unknown."""
    BUSY = "busy"
    """Too much waits, here or for this client. Nothing happened; try again a little later."""


class Result(msgspec.Struct, frozen=True, array_like=True, tag="result", gc=False):
    """The state machine's own answer (for an OpenSession: the session's id, as decimal digits)."""

    id: Natural
    data: bytes


class Failure(msgspec.Struct, frozen=True, array_like=True, tag="failure", gc=False):
    """No result. ``leader`` is the node that may do better, if this one knows."""

    id: Natural
    code: Code
    why: str
    leader: int | None = None


class Status(msgspec.Struct, frozen=True, array_like=True, tag="status", gc=False):
    """One node's view of itself."""

    id: Natural
    node: int
    protocol: str
    role: str
    leader: int | None
    term: int
    commit_index: int
    applied_index: int
    pid: int
    stalled: str | None = None
    voters: Voters | None = None
    nodes: Annotated[tuple[NodeId, ...], Meta(max_length=NODE_ID_MAX + 1)] = ()
    """All that there are, as far as it knows."""
    note: Annotated[str, Meta(max_length=NOTE_MAX)] = ""
    """What else there is to say of it, in words that follow its name; empty: nothing."""


class BackupBegun(msgspec.Struct, frozen=True, array_like=True, tag="backup", gc=False):
    """A backup of the state after entry ``index``; the rest as in ``backup/archive.py``."""

    id: Natural
    cluster: _Name
    protocol: _Name
    node: NodeId
    role: _Name
    index: Natural
    term: Natural
    kind: _Name
    revision: Natural
    oldest_revision: Natural
    time_ns: Natural
    release: _Name


class BackupPiece(msgspec.Struct, frozen=True, array_like=True, tag="backup piece", gc=False):
    """More of the state. The last one has nothing but the SHA-256 of all."""

    id: Natural
    data: Annotated[bytes, Meta(max_length=PIECE_BYTES_MAX)]
    digest: _Digest = b""


class Known(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A node as others know it: where nodes dial it (``peer``) and clients (``client``; empty: nobody said), and the
    incarnation of its folder, where the log has it."""

    node: NodeId
    peer: Annotated[str, Meta(max_length=ADDRESS_CHARACTERS_MAX)]
    client: Annotated[str, Meta(max_length=ADDRESS_CHARACTERS_MAX)]
    incarnation: Annotated[bytes, Meta(max_length=64)] = b""


class Description(msgspec.Struct, frozen=True, array_like=True, tag="cluster", gc=False):
    """What a node has to know of its cluster before it can join it. Nodes that know the same say the same.

    ``options``: the protocol's config, as JSON. ``there``: all nodes that there are, by number. ``keys``: the public
    keys of all that ever were, where nodes have some. ``voters`` None: not durable yet.
    """

    id: Natural
    cluster: _Name
    protocol: _Name
    options: Annotated[bytes, Meta(max_length=OPTIONS_BYTES_MAX)]
    founders: Annotated[tuple[NodeId, ...], Meta(max_length=MEMBERS_MAX)]
    there: Annotated[tuple[Known, ...], Meta(max_length=MEMBERS_MAX)]
    keys: Annotated[tuple[tuple[NodeId, Public], ...], Meta(max_length=NODE_ID_MAX + 1)]
    voters: Voters | None
    nodes: Nodes


class Results(msgspec.Struct, frozen=True, array_like=True, tag="results"):
    """The answers to the commands of a signed request, or some of them; the ``id`` of each is its place there."""

    id: Natural
    answers: Annotated[tuple[Result | Failure, ...], Meta(max_length=COMMANDS_MAX)]


Response: TypeAlias = Result | Results | Failure | Status
"""To what clients of the state machine ask."""

encode = msgspec.msgpack.Encoder().encode
decode_client_command = msgspec.msgpack.Decoder(ClientCommand).decode
decode_log_command = msgspec.msgpack.Decoder(LogCommand).decode
decode_signed_command = msgspec.msgpack.Decoder(SignedCommand).decode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_response = msgspec.msgpack.Decoder(Response).decode
decode_backup_answer = msgspec.msgpack.Decoder(BackupBegun | BackupPiece | Failure).decode
decode_description = msgspec.msgpack.Decoder(Description | Failure).decode
DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)
