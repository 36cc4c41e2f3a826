"""PBFT: a replicated log among nodes of which f may lie, with n = 3f + 1 of them.

Sources. Castro and Liskov, "Practical Byzantine fault tolerance" (OSDI 1999), whose section numbers stand beside the
rules, and Castro's thesis (2001).

How it works. In each view one node, the primary, gives numbers to batches of clients' requests; two rounds of votes
among all (``normal.py``, §4.2) make an order first certain within the view, then certain in every later one. What is
decided is executed in order (``execution.py``). Checkpoints (``checkpoints.py``, §4.3) bound what is remembered; at one
of them other members may begin to vote (``members.py``). A primary that stands in the way is left
(``view_changes.py``, §4.4), and another view entered (``new_views.py``). What was lost is sent again
(``retransmission.py``); a node that fell behind fetches what was decided, with proof (``catch_up.py``,
``transfer.py``). Requests are signed by their clients, and a node that lies can neither invent nor change one
(``waiting.py``). Reads wait for what a client may know of (``reads.py``, §5.1.3).

Each part is an object that gets what it needs when it is made. Three of them hold the state that many parts read:
``CurrentView``, ``MessageLog`` and ``History``; each says which part changes it. ``Pbft`` makes the parts and passes on
what comes; it has no rules of its own but the order of what a step does at its end.

Durable state, so that a crash is only a crash: ``Accepted`` and ``Stored`` (what this node voted for), ``Prepared``
(what it may have committed), ``Changing`` and ``Entered`` (its view), ``Footing`` (a checkpoint ahead of it on which
votes rest), ``Executed`` (stable checkpoints and the order up to them), ``Taken`` (snapshots). All that a node says
waits for the records before it, by the kernel's barrier.

Deviations. (1) A pre-prepare counts as its primary's prepare, signed as such, so that one certificate of a quorum
proves an order. (2) A prepare carries the primary's signature: two that differ prove that it lied, and end its view at
once. (3) A checkpoint's digest is a hash over the order, not over the state. Execution is deterministic, so they are
equal together; and no checkpoint has to read the state. (4) The last-reply cache of §4.2 is the session table of the
service above, part of its snapshots; what it has answered is not ordered again, and would have no effect if it were.
(5) The timer runs for whatever the primary owes, and starts again with what is executed in its turn, so that no client
is starved and no backlog deposes an honest primary (``watch.py``). (6) MACs serve for commits and for what
one node tells another that is behind, which no third needs to believe; with signatures for the rest, the view change is
the simple one of OSDI 1999. (7) A quorum's commits decide for a node that has left their view, or did not prepare there
itself, and so does the word of f + 1 nodes that executed it: it could else stay behind for as long as the others need
no other view. (8) No tentative execution. (9) A node that a stable checkpoint has left behind suspects nobody while it
catches up (``watch.py``). (10) A node that alone has left a view executes what the others decide there, without a vote
(``execution.py``). (11) What a view executes soon after its beginning does not set the time for the next one back
(``view.py``): nodes that are slow for their load would leave one view after the other. (12) Water marks follow a
checkpoint that this node has reached: others may have become members before one that it has not. What a new view goes
on with it votes for all the same (``normal.py``): the others may need its vote before they can help it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from quorate.kernel import Core, Env, Key, Standing
from quorate.parts.crypto.keys import Keys
from quorate.parts.log.configuration import InForce, Reconfigurable, Voters
from quorate.protocols.pbft.catch_up import CatchUp
from quorate.protocols.pbft.checkpoints import Checkpoints
from quorate.protocols.pbft.checks import CHECK, SCREEN, SignatureChecks
from quorate.protocols.pbft.execution import EXECUTE, Execution
from quorate.protocols.pbft.fetching import Fetching
from quorate.protocols.pbft.group import Group, founders_of, point_of
from quorate.protocols.pbft.history import History
from quorate.protocols.pbft.holding import Holding
from quorate.protocols.pbft.images import SNAPSHOT, Images
from quorate.protocols.pbft.members import EpochMembers
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import (
    MESSAGES,
    RECORDS,
    Accepted,
    BatchOf,
    Changing,
    Checkpoint,
    Commit,
    Decided,
    Entered,
    Executed,
    FetchBatch,
    FetchImage,
    FetchLog,
    Footing,
    Forward,
    ImagePiece,
    LogOf,
    NewView,
    Offer,
    OfferAmong,
    PbftConfig,
    Prepare,
    Prepared,
    PrePrepare,
    Stable,
    Status,
    Stored,
    Taken,
    TakenAmong,
    ViewChange,
)
from quorate.protocols.pbft.new_views import NewViews
from quorate.protocols.pbft.normal import NormalCase
from quorate.protocols.pbft.others import Others
from quorate.protocols.pbft.proofs import PROVE, CheckedProof, ProofChecks
from quorate.protocols.pbft.reads import WaitingReads
from quorate.protocols.pbft.retransmission import BEAT, Retransmission
from quorate.protocols.pbft.transfer import INSTALL, SERVE, ImageTransfer
from quorate.protocols.pbft.view import VIEW, CurrentView
from quorate.protocols.pbft.view_changes import ViewChanges
from quorate.protocols.pbft.waiting import DOUBT, WaitingRequests
from quorate.protocols.pbft.watch import REQUEST, PrimaryWatch


class Later:
    """A call to a part that is made after the one that calls it, so that neither holds the other, nor the core."""

    to: Callable[[int], None]

    def __call__(self, value: int) -> None:
        self.to(value)


class Pbft(Core, Reconfigurable):
    """One node. Public attributes may be read by checkers and status pages, and by nothing else."""

    messages = MESSAGES
    records = RECORDS
    others_class: ClassVar[type[Others]] = Others
    log_class: ClassVar[type[MessageLog]] = MessageLog
    checks_class: ClassVar[type[SignatureChecks]] = SignatureChecks
    waiting_class: ClassVar[type[WaitingRequests]] = WaitingRequests
    watch_class: ClassVar[type[PrimaryWatch]] = PrimaryWatch
    normal_class: ClassVar[type[NormalCase]] = NormalCase
    members_class: ClassVar[type[EpochMembers]] = EpochMembers
    reads_class: ClassVar[type[WaitingReads]] = WaitingReads
    new_views_class: ClassVar[type[NewViews]] = NewViews
    view_changes_class: ClassVar[type[ViewChanges]] = ViewChanges
    checkpoints_class: ClassVar[type[Checkpoints]] = Checkpoints
    transfer_class: ClassVar[type[ImageTransfer]] = ImageTransfer
    fetching_class: ClassVar[type[Fetching]] = Fetching

    def __init__(self, env: Env, config: PbftConfig, keys: Keys) -> None:
        """Raises ValueError for keys of another node, and for members that are no founders."""
        super().__init__(env)
        if keys.node != env.id:
            raise ValueError(f"node {env.id} was given the keys of node {keys.node}")
        self.config = config
        self.founders = founders = founders_of(config, env.peers, keys)
        # The state that parts share.
        self.view = view = CurrentView(env, config, Group(config.members or founders, keys))
        self.log = log = self.log_class(env, config)
        self.history = history = History(env, config.window)
        # Each part knows those before it.
        others, leave_view = self.others_class(env), Later()
        self.checks = self.checks_class(env)
        self.proofs = ProofChecks(env)
        self.waiting = self.waiting_class(env, others, config, view, log, history, self.checks)
        self.watch = self.watch_class(env, config, view, log, history, self.waiting)
        self.normal = self.normal_class(env, others, config, view, log, history, self.checks, self.waiting, leave_view)
        self.members = self.members_class(env, config, founders, view, log, history)
        self.checkpoints = self.checkpoints_class(env, others, config, view, log, history, self.members, self.normal)
        self.holding = Holding(env, view)
        self.images = Images(env, config, view, log, history, self.holding)
        self.fetching = self.fetching_class(env, others, config, view, log)
        self.execution = Execution(
            *(env, config, view, log, history),
            *(self.waiting, self.members, self.images, self.fetching, self.checkpoints),
        )
        self.reads = self.reads_class(env, view, log, history)
        self.new_views = self.new_views_class(
            *(env, others, config, view, log),
            *(self.waiting, self.normal, self.checkpoints, self.fetching, self.reads),
            self.proofs,
        )
        self.view_changes = self.view_changes_class(
            *(env, others, config, view, log, history),
            *(self.watch, self.new_views, self.proofs),
        )
        leave_view.to = self.view_changes.leave
        self.transfer = self.transfer_class(
            *(env, others, config, founders, view, history),
            *(self.execution, self.holding),
        )
        self.catch_up = CatchUp(
            *(env, others, view, log, history),
            *(self.checkpoints, self.fetching, self.transfer, self.images, self.holding),
        )
        self.retransmission = Retransmission(
            *(env, others, config, view, log, history),
            *(self.waiting, self.normal, self.checkpoints, self.transfer, self.catch_up, self.holding),
        )

    # --- for status pages ---

    def standing(self) -> Standing:
        """As ``Core.standing``; a view counts as a term."""
        view = self.view
        role = "primary" if view.is_primary else "backup" if view.is_member else "learner"
        return Standing(role, view.leader, view.number, self.history.index, self._note())

    def _note(self) -> str:
        """Why a member has no vote for now, or what it fetches; empty where neither."""
        view, transfer = self.view, self.transfer
        if transfer.fetched is not None:
            return f"is behind, and fetches a snapshot: {transfer.offset} of {transfer.fetched[0].size_bytes} bytes"
        if not view.is_changing or not view.is_member:
            return ""
        return (
            f"waits for view {view.number}, for which {self.view_changes.gone_count} of {view.group.quorum.size} nodes "
            "have asked that it takes: until it begins this node does not vote, and executes what the others decide"
        )

    def in_force(self) -> InForce:
        """As ``Reconfigurable.in_force``."""
        group, history = self.view.group, self.history
        voters = Voters(group.members, history.next_members, group.epoch)
        return InForce(voters, history.nodes, self.view.keys.keyring)

    # --- a life ---

    def unrepairable(self) -> str:
        """As ``Core.unrepairable``: votes that are lost could wait for a stable checkpoint, but not view-changes."""
        return "a node that lies may still show a view-change that this one signed and does not remember"

    def restore(self, record: Any) -> None:
        """One durable record, to the state that it is of."""
        if isinstance(record, Stored | Accepted | Prepared):
            self.log.restore(record)
        elif isinstance(record, Changing | Entered):
            self.view.restore(record)
        elif isinstance(record, Executed | Taken | TakenAmong | Footing):
            self.history.restore(record)
            if isinstance(record, Executed):
                self.log.drop_ordered(self.history.low)
            elif isinstance(record, Footing):
                self.log.drop_ordered(point_of(record.certificate)[0], above=self.history.high)

    def checkpoint(self) -> Iterator[Any]:
        """The durable state as it is now."""
        yield from self.history.image_records()
        yield from self.log.batch_records()
        yield from self.history.order_records()
        yield from self.view.records()
        yield from self.log.vote_records()

    def start(self) -> None:
        """After recovery: execute again what is proven, and go on in the view."""
        self.execution.recover()
        self.view.announce()
        self.view.take_up()
        if self.view.is_changing:
            self.view_changes.ask()
        self.normal.rebuild()
        self.normal.take_proposals()
        self.retransmission.beat()

    def on_timer(self, key: Key) -> None:
        """A beat, a timeout, or the rest of what is to be executed."""
        if key == BEAT:
            self.retransmission.beat()
        elif key == EXECUTE:
            self.execution.go_on()
        elif key == REQUEST:
            if self.watch.is_late():
                self.view_changes.suspect()
        elif key == VIEW and self.view.alarm.is_due():
            self.view_changes.is_late()

    def on_stalled(self, why: str | None) -> None:
        """While the disk is full be silent: whoever waits for this node will do without it."""
        self.view.stalled = why
        if why is None:
            self.view_changes.look()  # its timer may have run out meanwhile
            self.normal.resume()

    def on_done(self, key: Key, result: Any) -> None:
        """Signatures were checked, a snapshot was taken, or a piece of one was read or stored."""
        if key == SNAPSHOT:
            self.images.taken(result)
        elif key == INSTALL:
            self.transfer.written(result)
        elif isinstance(key, tuple) and key[0] == SERVE:
            self.transfer.read(key[1], result)
        elif isinstance(key, tuple) and key[0] == PROVE:
            self._proven(self.proofs.done(key[1], result))
        elif isinstance(key, tuple) and key[0] == SCREEN:
            self.checks.screened(key[1], result)
        elif key == DOUBT:
            self.waiting.doubted(result)
        elif isinstance(key, tuple) and key[0] == CHECK and (check := self.checks.done(key[1], result)) is not None:
            self.waiting.checked(check)
            if check.sequence is not None:
                self.normal.checked(check)

    def _proven(self, proven: CheckedProof | None) -> None:
        if proven is None:
            return
        if isinstance(proven.message, ViewChange):
            self.view_changes.checked(proven.sender, proven.message, proven.wrong)
        else:
            self.new_views.checked(proven.message, proven.wrong)

    def settle(self) -> None:
        """What the inputs of this step share: execute, propose, answer. Once."""
        self.execution.execute_ready()
        self.catch_up.look()
        if self.view.has_new_members:
            self.new_views.begin_epoch()
        if self.view.is_changing:
            self.view_changes.ask_late()
        self.normal.propose()
        self.reads.answer()
        self.watch.look()

    # --- from above ---

    def submit(self, values: Sequence[bytes]) -> None:
        """Requests of this node's clients."""
        self.waiting.submit(values)

    def read(self, tokens: Sequence[int]) -> None:
        """Reads of this node's clients."""
        self.reads.read(tokens)

    # --- from others: each message to the part that it belongs to ---

    def on_forward(self, sender: int, m: Forward) -> None:
        self.waiting.on_forward(sender, m)

    def on_pre_prepare(self, sender: int, m: PrePrepare) -> None:
        self.normal.on_pre_prepare(sender, m)

    def on_prepare(self, sender: int, m: Prepare) -> None:
        self.normal.on_prepare(sender, m)

    def on_commit(self, sender: int, m: Commit) -> None:
        self.normal.on_commit(sender, m)

    def on_decided(self, sender: int, m: Decided) -> None:
        self.normal.on_decided(sender, m)

    def on_checkpoint(self, sender: int, m: Checkpoint) -> None:
        self.checkpoints.on_checkpoint(sender, m)

    def on_stable(self, sender: int, m: Stable) -> None:
        self.checkpoints.on_stable(sender, m)

    def on_view_change(self, sender: int, m: ViewChange) -> None:
        self.view_changes.on_view_change(sender, m)

    def on_new_view(self, sender: int, m: NewView) -> None:
        self.new_views.on_new_view(sender, m)

    def on_status(self, sender: int, m: Status) -> None:
        self.retransmission.on_status(sender, m)

    def on_fetch_batch(self, sender: int, m: FetchBatch) -> None:
        self.fetching.on_fetch_batch(sender, m)

    def on_batch_of(self, sender: int, m: BatchOf) -> None:
        self.fetching.on_batch_of(sender, m)

    def on_fetch_log(self, sender: int, m: FetchLog) -> None:
        self.catch_up.on_fetch_log(sender, m)

    def on_log_of(self, sender: int, m: LogOf) -> None:
        self.catch_up.on_log_of(sender, m)

    def on_offer(self, sender: int, m: Offer) -> None:
        self.transfer.on_offer(sender, m)

    def on_offer_among(self, sender: int, m: OfferAmong) -> None:
        self.transfer.on_offer_among(sender, m)

    def on_fetch_image(self, sender: int, m: FetchImage) -> None:
        self.transfer.on_fetch_image(sender, m)

    def on_image_piece(self, sender: int, m: ImagePiece) -> None:
        self.transfer.on_image_piece(sender, m)
