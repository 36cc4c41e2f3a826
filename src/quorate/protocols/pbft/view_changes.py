"""ViewChanges (§4.4): a primary that does not get requests executed is replaced, and nothing committed is lost.

A node that suspects the primary stops voting in the view and shows all what it knows: its stable checkpoint and every
order that prepared above it, with proof. The next primary waits for a quorum of these and makes the new view
(``new_views.py``).

A view-change that is not proven is dropped, and does not take the place of one that is.
"""

from __future__ import annotations

from quorate.kernel import Env
from quorate.protocols.pbft.history import History
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import VIEW_CHANGE, PbftConfig, ViewChange, view_change_statement
from quorate.protocols.pbft.new_views import NewViews
from quorate.protocols.pbft.others import Others
from quorate.protocols.pbft.view import CurrentView
from quorate.protocols.pbft.waiting import WaitingRequests


class ViewChanges:
    """The way out of a view."""

    def __init__(
        self,
        env: Env,
        others: Others,
        config: PbftConfig,
        view: CurrentView,
        log: MessageLog,
        history: History,
        waiting: WaitingRequests,
        new_views: NewViews,
    ) -> None:
        self._env = env
        self._others = others
        self._config = config
        self._view = view
        self._log = log
        self._history = history
        self._waiting = waiting
        self._new_views = new_views

    # --- ours ---

    def suspect(self) -> None:
        """§4.4: the oldest request waited too long."""
        view = self._view
        if not view.is_changing and self._waiting.pending and view.is_member and view.stalled is None:
            self.leave(view.number + 1)

    def is_late(self) -> None:
        """§4.5.2: the new view did not begin in time: the next one."""
        if self._view.is_changing:
            self.leave(self._view.number + 1)

    def leave(self, number: int) -> None:
        """Ask for this view, if it is a later one."""
        view = self._view
        if number <= view.number or not view.is_member or view.stalled is not None:
            return
        view.leave(number)
        self._log.end_view()
        self._waiting.stop_watching()
        self.ask()
        self.look()

    def ask(self) -> None:
        """Show all what this node knows. Again after a crash.

        Not while it has no checkpoint of the present members to show: others send it one, and then it asks.
        """
        if not self._history.is_founded:
            return
        change = self._change()
        self._view.changes[self._env.id] = change
        self._others.send(change)

    def ask_late(self) -> None:
        """What this node could not prove when it left the view, it may be able to prove now."""
        view = self._view
        if view.is_changing and view.is_member and self._env.id not in view.changes and self._history.is_founded:
            self.ask()
            self.look()

    def _change(self) -> ViewChange:
        view, prepared, stable = self._view, self._log.prepared, self._history.stable
        orders = tuple(prepared[sequence] for sequence in sorted(prepared) if sequence > self._history.low)
        signature = view.keys.sign(VIEW_CHANGE, view_change_statement(view.number, stable, orders))
        return ViewChange(view.number, stable, orders, signature)

    # --- of all ---

    def on_view_change(self, sender: int, m: ViewChange) -> None:
        """§4.4: keep each node's latest, if it is proven."""
        view = self._view
        known = view.changes.get(sender)
        is_old = m.view < view.number or (m.view == view.number and not view.is_changing)
        if is_old or not view.group.is_view(m.view) or view.stalled is not None:
            return
        if known is not None and known.view >= m.view:
            return
        if not view.group.has(sender):
            self._others.blame(sender, "changes views, and is no member")
        elif (why := view.group.why_not(sender, m, self._config.window)) is not None:
            self._others.blame(sender, f"sends a view-change that {why}")
        else:
            self._keep(sender, m)

    def _keep(self, sender: int, m: ViewChange) -> None:
        self._view.changes[sender] = m
        self._join()
        self.look()

    def _join(self) -> None:
        """§4.5.2: f + 1 nodes want a later view, one of them correct: go with the smallest they name."""
        view = self._view
        later = {node: change.view for node, change in sorted(view.changes.items()) if change.view > view.number}
        mask = sum(1 << node for node in later)
        if view.group.quorum.weak.is_quorum(mask):
            self.leave(min(later.values()))

    def look(self) -> None:
        """A quorum has left: the timer for the new view starts, and its primary makes it."""
        view = self._view
        if not view.is_changing:
            return
        changes = tuple((node, c) for node, c in sorted(view.changes.items()) if c.view == view.number)
        if not view.group.quorum.is_quorum(sum(1 << node for node, _ in changes)):
            return
        if not view.alarm.is_set:
            view.alarm.put_off(view.timeout_s)
        if view.primary == self._env.id:
            self._new_views.make(changes)
