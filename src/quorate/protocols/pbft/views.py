"""View changes (§4.4): a primary that does not get requests executed is replaced, and nothing committed is lost.

A node that suspects the primary stops voting in the view and shows all what it knows: its stable checkpoint and every
order that prepared above it, with proof. The next primary waits for a quorum of these, computes from them what the new
view begins with (``group.select``), and every backup computes the same before it takes part. Whatever any correct
node committed had prepared at a quorum, and every quorum of view-changes has a correct one of them.

A view-change that is not proven is dropped, and does not take the place of one that is.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.parts.votes.certificate import Certificate
from quorate.protocols.pbft.group import reach_of, select
from quorate.protocols.pbft.members import Members
from quorate.protocols.pbft.messages import (
    NEW_VIEW,
    PREPARE,
    VIEW_CHANGE,
    Changing,
    Entered,
    NewView,
    Proposal,
    ViewChange,
    new_view_statement,
    order_statement,
    view_change_statement,
)


class Views(Members):
    """The part of a node that changes views."""

    # --- out of a view ---

    def _suspect(self) -> None:
        """§4.4: the oldest request waited too long."""
        if not self.is_changing and self.pending and self.is_member and self._stalled is None:
            self._leave_view(self.view + 1)

    def _leave_view(self, view: int) -> None:
        if view <= self.view or not self.is_member or self._stalled is not None:
            return
        self._widen_timeout()
        self.view, self.is_changing = view, True
        self.slots.clear()
        self._request_alarm.stop()
        self._view_alarm.stop()
        self.env.persist(Changing(view))
        self._announce()
        change = self._view_change()
        self._changes[self.env.id] = change
        self._send_others(change)
        self._look_at_changes()

    def _widen_timeout(self) -> None:
        """§4.5.2: twice as long each time, until a view gets something done."""
        if self.is_changing or not self._has_executed_in_view:
            self._view_timeout_s = min(2 * self._view_timeout_s, self.config.view_timeout_s_max)
        else:
            self._view_timeout_s = self.config.request_timeout_s
        self._has_executed_in_view = False

    def _view_change(self) -> ViewChange:
        low = self.low
        prepared = tuple(self.prepared[sequence] for sequence in sorted(self.prepared) if sequence > low)
        signature = self.keys.sign(VIEW_CHANGE, view_change_statement(self.view, self.stable, prepared))
        return ViewChange(self.view, self.stable, prepared, signature)

    # --- view-changes ---

    def on_view_change(self, sender: int, m: ViewChange) -> None:
        """§4.4: keep each node's latest, if it is proven."""
        known = self._changes.get(sender)
        is_old = m.view < self.view or (m.view == self.view and not self.is_changing) or not self.group.is_view(m.view)
        if is_old or self._stalled is not None or (known is not None and known.view >= m.view):
            return
        if not self.group.has(sender):
            self._blame(sender, "changes views, and is no member")
        elif (why := self.group.why_not(sender, m, self.config.window)) is not None:
            self._blame(sender, f"sends a view-change that {why}")
        else:
            self._changes[sender] = m
            self._join()
            self._look_at_changes()

    def _join(self) -> None:
        """§4.5.2: f + 1 nodes want a later view, one of them correct: go with the smallest they name."""
        later = {node: change.view for node, change in sorted(self._changes.items()) if change.view > self.view}
        mask = sum(1 << node for node in later)
        if self.group.quorum.weak.is_quorum(mask):
            self._leave_view(min(later.values()))

    def _look_at_changes(self) -> None:
        """A quorum has left: the timer for the new view starts, and its primary makes it."""
        if not self.is_changing:
            return
        changes = tuple((node, c) for node, c in sorted(self._changes.items()) if c.view == self.view)
        if not self.group.quorum.is_quorum(sum(1 << node for node, _ in changes)):
            return
        if not self._view_alarm.is_set:
            self._view_alarm.put_off(self._view_timeout_s)
        if self.primary == self.env.id:
            self._make_new_view(changes)

    def _view_is_late(self) -> None:
        """§4.5.2: the new view did not begin in time: the next one."""
        if self.is_changing:
            self._leave_view(self.view + 1)

    # --- new view ---

    def _make_new_view(self, changes: tuple[tuple[int, ViewChange], ...]) -> None:
        stable, orders = select([change for _, change in changes])
        proposals = tuple(
            Proposal(sequence, digest, self.keys.sign(PREPARE, order_statement(self.view, sequence, digest)))
            for sequence, digest in orders
        )
        signature = self.keys.sign(NEW_VIEW, new_view_statement(self.view, changes, proposals))
        message = NewView(self.view, changes, proposals, signature)
        self._enter(message, stable)
        self._send_others(message)

    def on_new_view(self, sender: int, m: NewView) -> None:
        """§4.4: every backup checks the view-changes and computes the proposals itself. Anybody may pass it on."""
        if m.view < self.view or (m.view == self.view and not self.is_changing) or self._stalled is not None:
            return
        if not self.group.is_view(m.view):
            return  # of members that this node does not know yet
        primary = self.group.primary(m.view)
        if primary == self.env.id and sender != self.env.id and m.view > self.view:
            return  # nobody makes a view for us that we did not ask for
        statement = new_view_statement(m.view, m.changes, m.proposals)
        if not self.keys.verify(primary, NEW_VIEW, statement, m.signature):
            self._blame(sender, "sends a new view that its primary did not sign")
        elif (why := self._why_not_new_view(primary, m)) is not None:
            self._blame(primary, f"makes a new view that {why}")
        else:
            self._enter(m, select([change for _, change in m.changes])[0])

    def _why_not_new_view(self, primary: int, m: NewView) -> str | None:
        nodes = [node for node, _ in m.changes]
        if len(set(nodes)) != len(nodes) or not all(map(self.group.has, nodes)):
            return "names nodes twice, or some that do not vote"
        if not self.group.quorum.is_quorum(sum(1 << node for node in nodes)):
            return "has no quorum of view-changes"
        for node, change in m.changes:
            if change.view != m.view:
                return "rests on view-changes to another view"
            if change != self._changes.get(node) and self.group.why_not(node, change, self.config.window):
                return "rests on a view-change that is not proven"
        if self._selected(m.changes) != [(p.sequence, p.digest) for p in m.proposals]:
            return "proposes what does not follow from its view-changes"
        for p in m.proposals:
            if not self.keys.verify(primary, PREPARE, order_statement(m.view, p.sequence, p.digest), p.signature):
                return "proposes with a signature that is wrong"
        return None

    def _selected(self, changes: Sequence[tuple[int, ViewChange]]) -> list[tuple[int, bytes]]:
        return select([change for _, change in changes])[1]

    # --- into a view ---

    def _enter(self, message: NewView, stable: Certificate | None) -> None:
        """§4.4: pre-prepares of the new view, as if they came now. What was executed is not executed again."""
        self.view, self.is_changing, self.new_view = message.view, False, message
        self._reach = reach_of(message)
        self.slots.clear()
        self.env.persist(Entered(message))
        self._view_alarm.stop()
        self._changes = {node: c for node, c in self._changes.items() if c.view > message.view}
        if stable is not None:
            self._learn_stable(stable)
        self._lower_reads(self._reach)
        self._announce()
        self._take_proposals()
        if self.view != message.view or self.is_changing:
            return  # its checkpoint began an epoch, or the primary was seen to lie already
        self.next_sequence = self._reach + 1
        self._fetch_batches([p.digest for p in message.proposals if p.digest not in self.batches])
        self._requeue()
        self._hear_early()

    def _meet_new_members(self) -> None:
        """Their first view begins."""
        if self._has_new_members:
            self._has_new_members = False
            self._fail_reads()
            self._announce()
            self._requeue()
            self._hear_early()

    def _take_proposals(self) -> None:
        """As far as the water marks allow; the rest when they move. Else a primary that is behind stalls its view."""
        message = self.new_view
        if message is None:
            return
        for p in message.proposals:
            if self.view != message.view or self.is_changing:
                return  # the primary was seen to lie
            if self.low < p.sequence <= self.high:
                slot = self._slot(p.sequence)
                if slot.digest is None:
                    slot.waiting = None
                    self._accept(p.sequence, p.digest, p.signature)

    def _take_up_view(self) -> None:
        """After a crash: ask for the view again, or go on in it."""
        if self.new_view is not None:
            self._reach = reach_of(self.new_view)
        if self.is_changing:
            change = self._view_change()
            self._changes[self.env.id] = change
            self._send_others(change)
        self._rebuild()
        self._take_proposals()

    def _show_view(self, to: int) -> None:
        """To a node that is in an earlier view, or waits for this one."""
        if not self.is_changing:
            if self.new_view is not None:
                self.env.send(to, self.new_view)
        elif (mine := self._changes.get(self.env.id)) is not None:
            self.env.send(to, mine)
