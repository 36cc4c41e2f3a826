"""PBFT with planted bugs; most are mistakes that real implementations made. The simulator must catch every one.

A mutant replaces one part and overrides as little of it as it can, so that what it breaks is the rule it names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quorate.kernel import Env, mask_of
from quorate.parts.crypto.keys import Keys, Signed, Verified
from quorate.parts.quorum import Byzantine, Threshold
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.pbft.checkpoints import Checkpoints
from quorate.protocols.pbft.checks import Check, SignatureChecks
from quorate.protocols.pbft.core import Pbft
from quorate.protocols.pbft.fetching import Fetching
from quorate.protocols.pbft.group import point_of
from quorate.protocols.pbft.members import EpochMembers
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import (
    VIEW_CHANGE,
    Accepted,
    BatchOf,
    Changing,
    Commit,
    Decided,
    Entered,
    FetchBatch,
    Forward,
    Image,
    ImagePiece,
    NewView,
    PbftConfig,
    Prepare,
    Prepared,
    PrePrepare,
    Stable,
    ViewChange,
    view_change_statement,
)
from quorate.protocols.pbft.new_views import NewViews
from quorate.protocols.pbft.normal import NormalCase
from quorate.protocols.pbft.others import Others
from quorate.protocols.pbft.reads import WaitingReads
from quorate.protocols.pbft.slot import Commits
from quorate.protocols.pbft.transfer import ImageTransfer
from quorate.protocols.pbft.view_changes import ViewChanges
from quorate.protocols.pbft.waiting import WaitingRequests
from quorate.protocols.pbft.watch import PrimaryWatch
from quorate.sim.mutant import Mutant


class DropsPrepared(ViewChanges):
    """Breaks §4.4: a view-change shows all that prepared above the stable checkpoint."""

    def _change(self) -> ViewChange:
        view, stable = self._view, self._history.stable
        signature = view.keys.sign(VIEW_CHANGE, view_change_statement(view.number, stable, ()))
        return ViewChange(view.number, stable, (), signature)


class LooseDigest(NormalCase):
    """Breaks §4.2: the digest in a pre-prepare is that of the requests."""

    def _is_digest(self, digest: bytes, batch: tuple[bytes, ...]) -> bool:
        return True


class OnlyMatching(ViewChanges):
    """Breaks §4.4: a quorum of view-changes makes a new view, whichever checkpoints they rest on."""

    def look(self) -> None:
        """At those that rest on the same checkpoint."""
        view, own = self._view, point_of(self._history.stable)
        every = view.changes
        view.changes = {node: change for node, change in every.items() if point_of(change.stable) == own}
        super().look()
        if view.is_changing:
            view.changes = every


class HidesValid(ViewChanges):
    """Breaks §4.4: a view-change that is not proven counts for nothing."""

    def on_view_change(self, sender: int, m: ViewChange) -> None:
        """The first of each view is kept, whatever it is."""
        if m.view >= self._view.number and self._view.group.has(sender):
            known = self._view.changes.get(sender)
            if known is None or known.view < m.view:
                self._keep(sender, m)


class StaysBehind(NormalCase):
    """Breaks deviation 7 of ``core.py``: what the others decide is decided for a node that changes views too."""

    def on_commit(self, sender: int, m: Commit) -> None:
        """Of the view that it works in alone."""
        if not self._view.is_changing and m.view == self._view.number:
            super().on_commit(sender, m)

    def on_decided(self, sender: int, m: Decided) -> None:
        """Nor what they executed, while it changes views."""
        if not self._view.is_changing:
            super().on_decided(sender, m)


class ResetsSequence(NewViews):
    """Breaks §4.4: the numbers of a new view go on after those that it took over."""

    def _enter(self, message: NewView, stable: Certificate | None) -> None:
        super()._enter(message, stable)
        self._log.next_sequence = point_of(stable)[0] + 1


class NeverSuspects(ViewChanges):
    """Breaks §4.4: a backup whose request waits too long suspects the primary."""

    def suspect(self) -> None:
        """Not this one."""


class WatchesIdle(PrimaryWatch):
    """Breaks §4.4: the timer runs only while something is owed."""

    @property
    def is_owed(self) -> bool:
        """As if there always were something."""
        return True


class WatchesRequests(PrimaryWatch):
    """Breaks the rule that the timer runs for whatever is owed: a change of members is one thing beside requests."""

    @property
    def is_owed(self) -> bool:
        """Whether a request waits."""
        return bool(self._waiting.pending)


class OrdersAgain(WaitingRequests):
    """Breaks deviation 4 of ``core.py``: what was executed or answered before is not ordered again."""

    def on_forward(self, sender: int, m: Forward) -> None:
        """Whatever a client signed once."""
        if self._view.stalled is None:
            self._executed.clear()
            fresh, _, _ = self._fresh(sender, m.values)
            self._checks.ask(sender, fresh, None)


class CommitsByDigest(Commits):
    """Breaks §4.2: 2f + 1 commits decide that are of the same view."""

    def _alike(self, view: int, digest: bytes) -> int:
        return mask_of([node for node, said in self._said.items() if said[1] == digest])


class AddsUpViews(MessageLog):
    """Makes these."""

    commits_class = CommitsByDigest


class CountsEquals(ViewChanges):
    """Breaks §4.5.2: whoever asks for a later view has left the earlier ones too."""

    def _gone(self) -> int:
        number = self._view.number
        return mask_of([node for node, change in self._view.changes.items() if change.view == number])


class RaisesOnLies(Others):
    """Breaks the rule that a peer's bad message is blamed and dropped."""

    def blame(self, node: int, why: str) -> None:
        """End this node in its place."""
        raise ValueError(why)


class StaysBetweenMarks(NormalCase):
    """Breaks deviation 12 of ``core.py``: a node that is behind votes for what a new view goes on with."""

    def _is_between(self, sequence: int) -> bool:
        return self._history.low < sequence <= self._history.high


class HidesFooting(ViewChanges):
    """Breaks §4.4: a view-change has the checkpoint on which the orders in it rest."""

    def _change(self) -> ViewChange:
        footing, self._history.footing = self._history.footing, None
        change = super()._change()
        self._history.footing = footing
        return change


class NoWaterMarks(NormalCase):
    """Breaks §4.2: numbers above the high water mark are not taken."""

    def _is_now(self, sender: int, m: PrePrepare | Prepare) -> bool:
        view = self._view
        is_here = m.view == view.number and not view.is_changing
        return is_here and self._history.low < m.sequence and view.stalled is None


class PbftSmallQuorum(Pbft):
    """Breaks §4.2: 2f + 1 nodes make a quorum. Two sets of 2f share no correct node."""

    def __init__(self, env: Env, config: PbftConfig, keys: Keys) -> None:
        super().__init__(env, config, keys)
        self.view.group.quorum = _Small(self.view.group.members)


class _Small(Byzantine):
    def __init__(self, members: tuple[int, ...]) -> None:
        super().__init__(members)
        self.weak = Threshold(members, self.faults + 1)
        self.size = max(1, 2 * self.faults)


class ForgetsVotes(Pbft):
    """Breaks deviation "a crash is only a crash": a node remembers which orders it voted for."""

    def restore(self, record: Any) -> None:
        """All but the votes."""
        if not isinstance(record, Accepted):
            super().restore(record)


class ForgetsPrepared(Pbft):
    """Breaks the same: a node remembers what prepared, and so what it may have committed."""

    def restore(self, record: Any) -> None:
        """All but the certificates."""
        if not isinstance(record, Prepared):
            super().restore(record)


class ForgetsView(Pbft):
    """Breaks the same: a node remembers which views it has left."""

    def restore(self, record: Any) -> None:
        """All but the views."""
        if not isinstance(record, Changing | Entered):
            super().restore(record)


class TakesUnsigned(SignatureChecks):
    """Breaks §4.2: requests are signed by their clients."""

    def done(self, number: int, result: Any) -> Check | None:
        """Whatever was checked is right."""
        return super().done(number, Verified(2**63 - 1) if isinstance(result, Verified) else result)


class BelievesNewView(NewViews):
    """Breaks §4.4: backups compute for themselves what a new view begins with."""

    def _why_not(self, m: NewView) -> str | None:
        return None

    def _claims(self, primary: int, m: NewView) -> list[Signed]:
        return []


class ReadsAtOnce(WaitingReads):
    """Breaks §5.1.3: a read waits for what had prepared when it came."""

    def read(self, tokens: Sequence[int]) -> None:
        """As if nothing had."""
        self._waiting.append((0, tuple(tokens)))


class RunsOn(EpochMembers):
    """Breaks the rule of ``members.py`` that what the present members prove beyond a change proves nothing."""

    def _will_change(self, members: tuple[int, ...], at: int) -> None:
        """And goes on by whatever was proven before the change was known."""
        self._history.change_members(members, at)


class TakesAnyMembers(Checkpoints):
    """Breaks the rule that a checkpoint counts if those made it who vote there: any quorum's of the present will do."""

    def on_stable(self, sender: int, m: Stable) -> None:
        """Beyond a change, and from before the present members, too."""
        if point_of(m.certificate)[0] > self._history.low:
            if self._view.group.is_stable(m.certificate):
                self.learn(m.certificate)
            else:
                self._others.blame(sender, "sends a checkpoint that is not proven")


class KeepsPoison(ImageTransfer):
    """Breaks the rule that every piece is proven before it is stored: a liar's bytes outlive it."""

    def _is_piece(self, image: Image, m: ImagePiece) -> bool:
        """Whatever comes at the right place: the whole file is checked in the end."""
        return m.chunk.total_bytes == image.size_bytes


class RenewsPatience(ImageTransfer):
    """Breaks the rule that no answer prolongs a source's turn: one that says anything is asked again."""

    def _is_lied_to(self, sender: int) -> None:
        self._begin_turn(sender)


class AnswersAll(Fetching):
    """Breaks the rule of ``fetching.py`` that what one node asks for in a beat is bounded."""

    def on_fetch_batch(self, sender: int, m: FetchBatch) -> None:
        """As often as it asks."""
        batch = self._log.batches.get(m.digest)
        if batch is not None:
            self._env.send(sender, BatchOf(batch))


class ChecksInPlace(ViewChanges):
    """Breaks the rule of ``proofs.py`` that no signatures of view-changes are checked on the core's thread."""

    def on_view_change(self, sender: int, m: ViewChange) -> None:
        """Rightly, but all at once, while nothing else is done."""
        group, keys = self._view.group, self._view.keys
        if not self._is_wanted(sender, m) or not group.has(sender) or group.why_odd(m, self._config.window) is not None:
            return
        if all(
            keys.verify(claim.signer, claim.context, claim.message, claim.signature)
            for claim in group.claims_of(sender, m)
        ):
            self._keep(sender, m)


class ForgetsAdvice(ImageTransfer):
    """Breaks the rule that a newcomer believes those whom it was told of until it has the state in which it joined."""

    @property
    def _is_introduced(self) -> bool:
        """As soon as it has proven any checkpoint."""
        return self._history.stable is not None


def _with(**parts: Any) -> type[Pbft]:
    """A node with this part in place of the right one."""
    (part,) = parts.values()
    return type(part.__name__, (Pbft,), parts)


class ChecksByNumber(ViewChanges):
    """Breaks ``Keyring.by_key``: a job knows no key that came later than its node's configuration."""

    def on_view_change(self, sender: int, m: ViewChange) -> None:
        group = self._view.group
        if self._is_wanted(sender, m) and group.has(sender) and group.why_odd(m, self._config.window) is None:
            self._proofs.ask(sender, m, group.claims_of(sender, m))


MUTANTS = (
    Mutant(
        "drops-prepared", "a view-change shows nothing of what prepared", core=_with(view_changes_class=DropsPrepared)
    ),
    Mutant("loose-digest", "a digest is not compared with its batch", core=_with(normal_class=LooseDigest), lies=True),
    Mutant(
        "only-matching",
        "a new view waits for view-changes with equal checkpoints",
        core=_with(view_changes_class=OnlyMatching),
        lies=True,
    ),
    Mutant(
        "hides-valid",
        "a view-change that is not proven is kept and counted",
        core=_with(view_changes_class=HidesValid),
        lies=True,
    ),
    Mutant(
        "stays-behind",
        "a node that changes views takes no decision of the others",
        core=_with(normal_class=StaysBehind),
    ),
    Mutant(
        "resets-sequence", "a new view begins to number at the checkpoint", core=_with(new_views_class=ResetsSequence)
    ),
    Mutant(
        "never-suspects",
        "a primary that does nothing is left alone",
        core=_with(view_changes_class=NeverSuspects),
        lies=True,
    ),
    Mutant(
        "suspects-idle",
        "a primary is suspected when there is nothing to do",
        core=_with(watch_class=WatchesIdle),
        quiet=True,
    ),
    Mutant(
        "watches-requests",
        "the timer does not run for a change of members",
        core=_with(watch_class=WatchesRequests),
        joins=True,
    ),
    Mutant(
        "counts-equals",
        "whoever asks for a later view is not counted among those who left",
        core=_with(view_changes_class=CountsEquals),
        joins=True,
    ),
    Mutant(
        "checks-by-number",
        "signatures of nodes that joined are checked with the keys of the founders",
        core=_with(view_changes_class=ChecksByNumber),
        joins=True,
    ),
    Mutant("adds-up-views", "commits are counted by digest alone, across views", core=_with(log_class=AddsUpViews)),
    Mutant(
        "orders-again",
        "a request that another node passes on is ordered, however often it was",
        core=_with(waiting_class=OrdersAgain),
        lies=True,
    ),
    Mutant(
        "raises-on-lies",
        "a bad message ends the node that it is sent to",
        core=_with(others_class=RaisesOnLies),
        lies=True,
    ),
    Mutant("no-water-marks", "numbers far ahead are taken", core=_with(normal_class=NoWaterMarks)),
    Mutant(
        "stays-between-marks",
        "a node that is behind votes for nothing that is beyond its water marks",
        core=_with(normal_class=StaysBetweenMarks),
    ),
    Mutant(
        "hides-footing",
        "a view-change shows what prepared beyond the water marks, and not the checkpoint below it",
        core=_with(view_changes_class=HidesFooting),
    ),
    Mutant("small-quorum", "2f nodes are taken for a quorum", core=PbftSmallQuorum),
    Mutant("forgets-votes", "votes are not restored after a crash", core=ForgetsVotes),
    Mutant("forgets-prepared", "what prepared is not restored after a crash", core=ForgetsPrepared),
    Mutant("forgets-view", "views that were left are not restored after a crash", core=ForgetsView),
    Mutant(
        "takes-unsigned", "signatures of requests are not looked at", core=_with(checks_class=TakesUnsigned), lies=True
    ),
    Mutant(
        "believes-new-view",
        "a new view is taken as its primary makes it",
        core=_with(new_views_class=BelievesNewView),
        lies=True,
    ),
    Mutant(
        "runs-on",
        "a node that catches up runs on in an old epoch",
        core=_with(members_class=RunsOn),
        lies=True,
        joins=True,
    ),
    Mutant(
        "takes-any-members",
        "a checkpoint counts whoever had to make it",
        core=_with(checkpoints_class=TakesAnyMembers),
        lies=True,
        joins=True,
    ),
    Mutant(
        "keeps-poison",
        "pieces of a snapshot are stored as they come",
        core=_with(transfer_class=KeepsPoison),
        lies=True,
        joins=True,
    ),
    Mutant(
        "renews-patience",
        "a source that sends nothing of use keeps its turn",
        core=_with(transfer_class=RenewsPatience),
        lies=True,
        joins=True,
    ),
    Mutant(
        "answers-all",
        "whoever asks for batches gets them, however many",
        core=_with(fetching_class=AnswersAll),
        lies=True,
    ),
    Mutant(
        "checks-in-place",
        "signatures of view-changes are checked by the core itself",
        core=_with(view_changes_class=ChecksInPlace),
    ),
    Mutant(
        "forgets-advice",
        "a newcomer that has proven a checkpoint believes the members of its time alone",
        core=_with(transfer_class=ForgetsAdvice),
    ),
    Mutant("reads-at-once", "a read does not wait for what had prepared", core=_with(reads_class=ReadsAtOnce)),
)
