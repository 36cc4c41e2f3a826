"""ViewChanges (§4.4): a primary that does not get requests executed is replaced, and nothing committed is lost.

A node that suspects the primary stops voting in the view and shows all what it knows: its stable checkpoint and every
order that prepared above it, with proof. The next primary waits for a quorum of these and makes the new view
(``new_views.py``).

A view-change that is not proven is dropped, and does not take the place of one that is. Its signatures are checked off
the loop (``proofs.py``).
"""

from __future__ import annotations

from quorate.kernel import Env, mask_of
from quorate.protocols.pbft.group import NO_CHECKPOINT, NO_ORDERS, NO_SIGNATURE, point_of
from quorate.protocols.pbft.history import History
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import VIEW_CHANGE, PbftConfig, ViewChange, view_change_statement
from quorate.protocols.pbft.new_views import NewViews
from quorate.protocols.pbft.others import Others
from quorate.protocols.pbft.proofs import ProofChecks
from quorate.protocols.pbft.view import CurrentView
from quorate.protocols.pbft.watch import PrimaryWatch


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
        watch: PrimaryWatch,
        new_views: NewViews,
        proofs: ProofChecks,
    ) -> None:
        self._env = env
        self._others = others
        self._config = config
        self._view = view
        self._log = log
        self._history = history
        self._watch = watch
        self._new_views = new_views
        self._proofs = proofs

    # --- ours ---

    def suspect(self) -> None:
        """§4.4: what the primary owes took too long."""
        view = self._view
        if not view.is_changing and self._watch.is_owed and view.is_member and view.stalled is None:
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
        view, prepared, stable = self._view, self._log.prepared, self._history.shown
        orders = tuple(prepared[sequence] for sequence in sorted(prepared) if sequence > point_of(stable)[0])
        signature = view.keys.sign(VIEW_CHANGE, view_change_statement(view.number, stable, orders))
        return ViewChange(view.number, stable, orders, signature)

    # --- of all ---

    def on_view_change(self, sender: int, m: ViewChange) -> None:
        """§4.4: keep each node's latest, if it is proven."""
        view = self._view
        if not self._is_wanted(sender, m):
            return
        if not view.group.has(sender):
            self._others.blame(sender, "changes views, and is no member")
        elif (why := view.group.why_odd(m, self._config.window)) is not None:
            self._others.blame(sender, f"sends a view-change that {why}")
        else:
            self._proofs.ask(sender, m, view.keys.keyring.by_key(view.group.claims_of(sender, m)))

    def checked(self, sender: int, m: ViewChange, wrong: int | None) -> None:
        """Its signatures were checked; the first that is ``wrong`` says what is not proven."""
        if wrong is not None:
            of_checkpoint = 0 if m.stable is None else len(m.stable.signatures)
            why = NO_SIGNATURE if wrong == 0 else NO_CHECKPOINT if wrong <= of_checkpoint else NO_ORDERS
            self._others.blame(sender, f"sends a view-change that {why}")
        elif self._is_wanted(sender, m):
            self._keep(sender, m)

    def _is_wanted(self, sender: int, m: ViewChange) -> bool:
        """Whether it asks for a view that is not over, and is the sender's latest."""
        view = self._view
        known = view.changes.get(sender)
        is_old = m.view < view.number or (m.view == view.number and not view.is_changing)
        if is_old or not view.group.is_view(m.view) or view.stalled is not None:
            return False
        return known is None or known.view < m.view

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
        """§4.5.2: a quorum has left the views below: the timer for the new one starts, and its primary makes it.

        Who asks for a later view has left those below, too, and its request for this one may have been lost: where
        every vote is needed, the others would else wait for it for ever, and it for them.
        """
        view, quorum = self._view, self._view.group.quorum
        if not view.is_changing or not quorum.is_quorum(self._gone()):
            return
        if not view.alarm.is_set:
            view.alarm.put_off(view.timeout_s)
        changes = tuple((node, c) for node, c in sorted(view.changes.items()) if c.view == view.number)
        if view.primary == self._env.id and quorum.is_quorum(mask_of([node for node, _ in changes])):
            self._new_views.make(changes)

    @property
    def gone_count(self) -> int:
        """How many nodes work in no view below the one that this node asks for, as far as it knows."""
        return self._gone().bit_count()

    def _gone(self) -> int:
        """The mask of those who work in no view below the one that this node asks for."""
        number = self._view.number
        return mask_of([node for node, change in self._view.changes.items() if change.view >= number])
