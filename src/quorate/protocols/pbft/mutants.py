"""PBFT with planted bugs; most are mistakes that real implementations made. The simulator must catch every one.

A mutant overrides as little as it can, so that what it breaks is the rule it names.
"""

from __future__ import annotations

from typing import Any

from quorate.kernel import Env, Key
from quorate.parts.crypto.keys import Keys, Verified
from quorate.parts.quorum import Byzantine, Threshold
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.pbft.core import Pbft
from quorate.protocols.pbft.group import point_of
from quorate.protocols.pbft.messages import (
    VIEW_CHANGE,
    Accepted,
    Changing,
    Commit,
    Decided,
    Entered,
    NewView,
    PbftConfig,
    Prepare,
    Prepared,
    PrePrepare,
    ViewChange,
    view_change_statement,
)
from quorate.sim.mutant import Mutant


class DropsPrepared(Pbft):
    """Breaks §4.4: a view-change shows all that prepared above the stable checkpoint."""

    def _view_change(self) -> ViewChange:
        signature = self.keys.sign(VIEW_CHANGE, view_change_statement(self.view, self.stable, ()))
        return ViewChange(self.view, self.stable, (), signature)


class LooseDigest(Pbft):
    """Breaks §4.2: the digest in a pre-prepare is that of the requests."""

    def _is_digest(self, digest: bytes, batch: tuple[bytes, ...]) -> bool:
        return True


class OnlyMatching(Pbft):
    """Breaks §4.4: a quorum of view-changes makes a new view, whichever checkpoints they rest on."""

    def _look_at_changes(self) -> None:
        same = {node: c for node, c in self._changes.items() if point_of(c.stable) == point_of(self.stable)}
        every, self._changes = self._changes, same
        super()._look_at_changes()
        if self.is_changing:
            self._changes = every


class HidesValid(Pbft):
    """Breaks §4.4: a view-change that is not proven counts for nothing."""

    def on_view_change(self, sender: int, m: ViewChange) -> None:
        """The first of each view is kept, whatever it is."""
        if m.view >= self.view and self.group.has(sender):
            known = self._changes.get(sender)
            if known is None or known.view < m.view:
                self._changes[sender] = m
                self._join()
                self._look_at_changes()


class StaysBehind(Pbft):
    """Breaks deviation 7 of ``core.py``: what the others decide is decided for a node that changes views too."""

    def on_commit(self, sender: int, m: Commit) -> None:
        """Of the view that it works in alone."""
        if not self.is_changing and m.view == self.view:
            super().on_commit(sender, m)

    def on_decided(self, sender: int, m: Decided) -> None:
        """Nor what they executed, while it changes views."""
        if not self.is_changing:
            super().on_decided(sender, m)


class ResetsSequence(Pbft):
    """Breaks §4.4: the numbers of a new view go on after those that it took over."""

    def _enter(self, message: NewView, stable: Certificate | None) -> None:
        super()._enter(message, stable)
        self.next_sequence = self.low + 1


class NeverSuspects(Pbft):
    """Breaks §4.4: a backup whose request waits too long suspects the primary."""

    def _suspect(self) -> None:
        pass


class SuspectsIdle(Pbft):
    """Breaks §4.4: the timer runs only while a request waits."""

    def _watch(self) -> None:
        super()._watch()
        if not self._request_alarm.is_set:
            self._request_alarm.put_off(self._view_timeout_s)

    def _suspect(self) -> None:
        if not self.is_changing:
            self._leave_view(self.view + 1)

    def start(self) -> None:
        """And it runs from the beginning."""
        super().start()
        self._watch()


class RaisesOnLies(Pbft):
    """Breaks the rule that a peer's bad message is blamed and dropped."""

    def _blame(self, node: int, why: str) -> None:
        raise ValueError(why)


class NoWaterMarks(Pbft):
    """Breaks §4.2: numbers above the high water mark are not taken."""

    def _is_now(self, sender: int, m: PrePrepare | Prepare) -> bool:
        return m.view == self.view and not self.is_changing and self.low < m.sequence and self._stalled is None


class SmallQuorum(Pbft):
    """Breaks §4.2: 2f + 1 nodes make a quorum. Two sets of 2f share no correct node."""

    def __init__(self, env: Env, config: PbftConfig, keys: Keys) -> None:
        super().__init__(env, config, keys)
        self.group.quorum = _Small(self.group.members)


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


class TakesUnsigned(Pbft):
    """Breaks §4.2: requests are signed by their clients."""

    def on_done(self, key: Key, result: Any) -> None:
        """Whatever was checked is right."""
        if isinstance(result, Verified):
            result = Verified(2**63 - 1)
        super().on_done(key, result)

    def _checked(self, check: Any, is_good: bool) -> None:
        super()._checked(check, True)


class BelievesNewView(Pbft):
    """Breaks §4.4: backups compute for themselves what a new view begins with."""

    def _why_not_new_view(self, primary: int, m: NewView) -> str | None:
        return None


class ReadsAtOnce(Pbft):
    """Breaks §5.1.3: a read waits for what had prepared when it came."""

    def read(self, tokens: Any) -> None:
        """As if nothing had."""
        self._reads.append((0, tuple(tokens)))


MUTANTS = (
    Mutant("drops-prepared", "a view-change shows nothing of what prepared", core=DropsPrepared),
    Mutant("loose-digest", "a digest is not compared with its batch", core=LooseDigest, lies=True),
    Mutant("only-matching", "a new view waits for view-changes with equal checkpoints", core=OnlyMatching, lies=True),
    Mutant("hides-valid", "a view-change that is not proven is kept and counted", core=HidesValid, lies=True),
    Mutant("stays-behind", "a node that changes views takes no decision of the others", core=StaysBehind),
    Mutant("resets-sequence", "a new view begins to number at the checkpoint", core=ResetsSequence),
    Mutant("never-suspects", "a primary that does nothing is left alone", core=NeverSuspects, lies=True),
    Mutant("suspects-idle", "a primary is suspected when there is nothing to do", core=SuspectsIdle, quiet=True),
    Mutant("raises-on-lies", "a bad message ends the node that it is sent to", core=RaisesOnLies, lies=True),
    Mutant("no-water-marks", "numbers far ahead are taken", core=NoWaterMarks),
    Mutant("small-quorum", "2f nodes are taken for a quorum", core=SmallQuorum),
    Mutant("forgets-votes", "votes are not restored after a crash", core=ForgetsVotes),
    Mutant("forgets-prepared", "what prepared is not restored after a crash", core=ForgetsPrepared),
    Mutant("forgets-view", "views that were left are not restored after a crash", core=ForgetsView),
    Mutant("takes-unsigned", "signatures of requests are not looked at", core=TakesUnsigned, lies=True),
    Mutant("believes-new-view", "a new view is taken as its primary makes it", core=BelievesNewView, lies=True),
    Mutant("reads-at-once", "a read does not wait for what had prepared", core=ReadsAtOnce),
)
