"""Messages of each protocol as a node might send them, for attackers to change. Their signatures are wrong."""

from __future__ import annotations

from typing import Any, Final

from quorate.parts.crypto.keys import Symbolic
from quorate.parts.leaderlog.acquaintances import NodesKnown
from quorate.parts.leaderlog.proposals import Propose
from quorate.parts.leaderlog.reads import ReadReply, ReadRequest
from quorate.parts.leaderlog.returns import Return
from quorate.parts.leaderlog.transfers import Wanted
from quorate.parts.log.configuration import Newcomer, Nodes
from quorate.parts.log.entries import COMMAND, WITHHELD, Entry
from quorate.parts.log.replicated import Chunk
from quorate.parts.requests import sign
from quorate.parts.votes.certificate import Certificate
from quorate.protocols import vote_messages as vote
from quorate.protocols.multipaxos import messages as multipaxos
from quorate.protocols.pbft import messages as pbft
from quorate.protocols.raft import messages as raft
from quorate.protocols.tendermint import messages as tendermint

ENTRY: Final = Entry(3, b"data", COMMAND)
BALLOT: Final = (3, 2)
CHUNK: Final = Chunk(5, 2, 0, b"piece", 1000)
WANTED: Final = Wanted(3, 5, 0, 4, 9)
SIGNATURE: Final = bytes(64)
DIGEST: Final = bytes(32)
BLOCK_NAME: Final = bytes(67) + b"\1"
PROOFS: Final = (bytes(16),) * 4
BATCH: Final = (sign(Symbolic(()).client(0), [b"command"]),)
CERTIFICATE: Final = Certificate(
    pbft.CHECKPOINT, pbft.checkpoint_statement(16, 16, DIGEST), tuple((node, SIGNATURE) for node in (1, 2, 3))
)
AMONG: Final = Nodes((Newcomer(4, "n4.example:7501", bytes(32)),), (3,))
INCARNATION: Final = bytes(17)
RETURNS: Final = (Return(2, INCARNATION, 4),)
CONFIGURED: Final = raft.Configured(4, 4, (1, 2, 4), (), AMONG)
AT: Final = tendermint.ValidatorsAt(((bytes(20), 1, 0),), bytes(20))
IMAGE: Final = tendermint.Image(
    3, 5, 1000, DIGEST, DIGEST, 256, tendermint.ChainPoint(3, BLOCK_NAME, 7, DIGEST, DIGEST, AT, AT, AT)
)
CHANGE: Final = pbft.ViewChange(1, CERTIFICATE, (CERTIFICATE,), SIGNATURE)

MESSAGES: Final[dict[str, tuple[Any, ...]]] = {
    "vote": (
        vote.ProposedBatch(3, 2, BATCH, 1, CERTIFICATE),
        vote.Prevote(3, 2, DIGEST, SIGNATURE),
        vote.Precommit(3, 2, DIGEST, SIGNATURE),
        vote.Decision(3, 2, BATCH, CERTIFICATE),
        vote.Here(3, 2),
    ),
    "tendermint": (
        tendermint.Proposal(3, 2, b"a block", 1, b"prevotes", 7, SIGNATURE),
        tendermint.Prevote(3, 2, BLOCK_NAME, 1, 7, SIGNATURE),
        tendermint.Precommit(3, 2, None, 1, 7, SIGNATURE),
        tendermint.Votes(
            (
                tendermint.Prevote(3, 2, None, 1, 7, SIGNATURE),
                tendermint.Precommit(3, 2, BLOCK_NAME, 2, 7, SIGNATURE),
            )
        ),
        tendermint.Decision(3, b"a block", b"precommits"),
        tendermint.Here(3),
        tendermint.Accusation(3, b"a piece"),
        tendermint.Checkpoint(3, DIGEST, SIGNATURE),
        tendermint.Offer(IMAGE, CERTIFICATE, b"precommits"),
        tendermint.FetchPiece(3, 256),
        tendermint.ImagePiece(CHUNK, (DIGEST,)),
    ),
    "raft": (
        raft.PreVote(3, 7, 2),
        raft.PreVoteReply(3, True),
        raft.RequestVote(3, 7, 2),
        raft.RequestVoteWithLeave(3, 7, 2),
        raft.TimeoutNow(3),
        raft.Vote(3, True),
        raft.AppendEntries(3, 5, 2, [ENTRY], 4),
        raft.AppendWithheld(3, 5, 2, [Entry(3, b"", WITHHELD)], 4),
        raft.InstallCut(3, 5, 2, RETURNS, CONFIGURED),
        raft.Appended(3, 5),
        raft.Conflict(3, 5, 2, 1),
        raft.Heartbeat(3, 4, 9),
        raft.HeartbeatReply(3, 9),
        raft.InstallSnapshot(3, CHUNK),
        raft.SnapshotProgress(3, 4, 0, False),
        raft.ServeSnapshot(3, WANTED),
        raft.SnapshotPiece(3, CHUNK),
        raft.AppendedAs(3, 5, INCARNATION, True),
        raft.Forgot(3, INCARNATION, 5),
        raft.InstallSnapshotAfter(3, CHUNK, RETURNS),
        raft.SnapshotPieceAfter(3, CHUNK, RETURNS),
        raft.InstallSnapshotAmong(3, CHUNK, RETURNS, CONFIGURED),
        raft.SnapshotPieceAmong(3, CHUNK, RETURNS, CONFIGURED),
        NodesKnown(AMONG),
        Propose([b"value"]),
        ReadRequest(1, [1, 2]),
        ReadReply(1, [1, 2], 4),
    ),
    "multipaxos": (
        multipaxos.Poll(1, 5),
        multipaxos.PollReply(1, True, BALLOT),
        multipaxos.Prepare(BALLOT, 5),
        multipaxos.PrepareWithLeave(BALLOT, 5, BALLOT),
        multipaxos.TakeOver(BALLOT),
        multipaxos.Promise(BALLOT, 5, [multipaxos.Run(BALLOT, 5, [ENTRY])], 0),
        multipaxos.Nack(BALLOT, BALLOT),
        multipaxos.Behind(BALLOT, 9),
        multipaxos.Accept(BALLOT, 5, [ENTRY], 4),
        multipaxos.Accepted(BALLOT, 5),
        multipaxos.Heartbeat(BALLOT, 4, 9),
        multipaxos.HeartbeatReply(BALLOT, 9),
        multipaxos.InstallSnapshot(BALLOT, CHUNK, (multipaxos.Membership(1, (1, 2, 3)),)),
        multipaxos.InstallSnapshotAmong(BALLOT, CHUNK, (multipaxos.Membership(1, (1, 2)),), AMONG),
        multipaxos.SnapshotProgress(BALLOT, 4, 0, False),
        multipaxos.ServeSnapshot(BALLOT, WANTED),
        multipaxos.SnapshotPiece(BALLOT, CHUNK, (multipaxos.Membership(1, (1, 2)),), AMONG),
        multipaxos.PromiseAs(BALLOT, 5, [multipaxos.Run(BALLOT, 5, [ENTRY])], 0, INCARNATION),
        multipaxos.AcceptedAs(BALLOT, 5, INCARNATION, True),
        multipaxos.InstallSnapshotAfter(BALLOT, CHUNK, (multipaxos.Membership(1, (1, 2)),), AMONG, RETURNS),
        multipaxos.SnapshotPieceAfter(BALLOT, CHUNK, (multipaxos.Membership(1, (1, 2)),), AMONG, RETURNS),
        NodesKnown(AMONG),
        Propose([b"value"]),
        ReadRequest(1, [1, 2]),
        ReadReply(1, [1, 2], 4),
    ),
    "pbft": (
        pbft.Forward(BATCH),
        pbft.PrePrepare(0, 5, pbft.digest_of(BATCH), SIGNATURE, BATCH),
        pbft.Prepare(0, 5, DIGEST, SIGNATURE, SIGNATURE),
        pbft.Commit(0, 5, DIGEST, PROOFS),
        pbft.Decided(5, DIGEST, PROOFS),
        pbft.Checkpoint(16, 16, DIGEST, SIGNATURE),
        pbft.Stable(CERTIFICATE),
        CHANGE,
        pbft.NewView(1, ((1, CHANGE),), (pbft.Proposal(5, DIGEST, SIGNATURE),), SIGNATURE),
        pbft.Status(0, False, 4, 0),
        pbft.FetchBatch(DIGEST),
        pbft.BatchOf(BATCH),
        pbft.FetchLog(0),
        pbft.LogOf(0, (DIGEST,), CERTIFICATE),
        pbft.Offer((pbft.Image(16, 16, DIGEST, 1000, DIGEST),), PROOFS),
        pbft.OfferAmong((pbft.Image(16, 16, DIGEST, 1000, DIGEST),), (AMONG,), PROOFS),
        pbft.FetchImage(16, 0),
        pbft.ImagePiece(CHUNK),
    ),
}
