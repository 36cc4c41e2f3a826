"""CurrentView: the view that this node works in or asks for, who votes in it, and how long it is given.

Durable: ``Changing``, ``Entered``. Every part reads it. ``ViewChanges`` alone leaves a view, ``NewViews`` enters one,
``EpochMembers`` begins an epoch, and the core notes a full disk.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.kernel import Env
from quorate.parts.alarm import Alarm
from quorate.parts.crypto.keys import Keys
from quorate.parts.log.replicated import Leads
from quorate.protocols.pbft.group import Group, reach_of
from quorate.protocols.pbft.messages import Changing, Entered, NewView, PbftConfig, ViewChange

VIEW = "view"
STEADY = 4
"""A view works if it still executes when it has lasted for so many of its timeouts."""


class CurrentView:
    """Every part may read the public attributes. They change by the methods here; where one is set, it says by whom."""

    def __init__(self, env: Env, config: PbftConfig, group: Group) -> None:
        self._env = env
        self._config = config
        self.group = group
        """Who votes, in this epoch."""
        # Durable.
        self.number = 0
        self.is_changing = False
        """Whether this node has asked for the view, and it has not begun."""
        self.new_view: NewView | None = None
        # Volatile. The first three follow from the above, and are read too often to be worked out each time.
        self.primary = group.primary(0)
        """§4.1: the one that gives numbers to batches in this view."""
        self.is_primary = self.primary == env.id
        """Whether this node leads the view, and the view has begun."""
        self.is_member = group.has(env.id)
        """Whether this node votes."""
        self.reach = 0
        """Up to where ``new_view`` goes on from earlier views."""
        self.changes: dict[int, ViewChange] = {}
        """Each node's latest view-change, if it is proven and not over. ``ViewChanges`` adds to it."""
        self.alarm = Alarm(env, VIEW)
        """Rings if the view that a quorum asked for does not begin in time."""
        self.timeout_s = config.request_timeout_s
        self.has_new_members = False
        """Whether an epoch began in this step; ``NewViews`` sees to it and sets it back."""
        self.stalled: str | None = None
        """Why nothing can be recorded, so that this node is silent. Set by the core."""
        self._began_at = 0.0
        self._works = False

    @property
    def keys(self) -> Keys:
        """This node's own, and what it knows of the others'."""
        return self.group.keys

    @property
    def leader(self) -> int | None:
        """The primary, once the view has begun."""
        return None if self.is_changing else self.primary

    # --- what nobody shows to a third node ---

    def prove(self, context: str, statement: bytes, to: int | None = None) -> tuple[bytes, ...]:
        """That this node says it, to all that it knows; or to one node alone.

        What is for one has to convince that one: it may have left, while a piece was read for it, and be no peer.
        """
        nodes = self._env.peers if to is None else (to,)
        return self.group.prove(context, statement, self._config.commits == "mac", nodes)

    def is_proven(self, node: int, context: str, statement: bytes, proofs: tuple[bytes, ...]) -> bool:
        """Whether that node says it, as far as this one can tell."""
        return self.group.is_proven(node, context, statement, proofs, self._config.commits == "mac")

    # --- changes of view ---

    def leave(self, number: int) -> None:
        """§4.4: vote no more below this view, and ask for it. Durable before anybody hears of it."""
        self._widen_timeout()
        self._be_in(number, is_changing=True)
        self.alarm.stop()
        self._env.persist(Changing(number))
        self.announce()

    def _be_in(self, number: int, *, is_changing: bool) -> None:
        self.number, self.is_changing = number, is_changing
        self.primary = self.group.primary(number)
        self.is_primary = self.primary == self._env.id and not is_changing
        self.is_member = self.group.has(self._env.id)

    def _widen_timeout(self) -> None:
        """§4.5.2: twice as long each time, until a view works."""
        if self.is_changing or not self._works:
            self.timeout_s = min(2 * self.timeout_s, self._config.view_timeout_s_max)
        else:
            self.timeout_s = self._config.request_timeout_s
        self._works = False

    def note_executed(self) -> None:
        """A batch was executed. What a view does soon after its beginning tells nothing of its timeout: nodes that are
        slow for their load would leave each view after some batches, most of them taken over from the last one."""
        if self._env.now - self._began_at >= STEADY * self.timeout_s:
            self._works = True

    def enter(self, message: NewView) -> None:
        """§4.4: work in the view of this message, which was checked."""
        self._be_in(message.view, is_changing=False)
        self.new_view = message
        self.reach = reach_of(message)
        self._began_at = self._env.now
        self.alarm.stop()
        self.changes = {node: change for node, change in self.changes.items() if change.view > message.view}
        self._env.persist(Entered(message))

    def begin_epoch(self, group: Group) -> None:
        """Others vote now: their first view begins, unless this node was in a later one before a crash."""
        self.group = group
        if self.number < group.first_view:
            self._be_in(group.first_view, is_changing=False)
            self.new_view = None
        else:
            self._be_in(self.number, is_changing=self.is_changing)
        self.reach = 0
        self.changes.clear()
        self.alarm.stop()
        self.timeout_s = self._config.request_timeout_s
        self._began_at = self._env.now
        self.has_new_members = True

    def know(self, node: int, key: bytes) -> None:
        """A node has joined, with this public key."""
        self.group.keys = self.group.keys.knowing(node, key)

    def announce(self) -> None:
        """Tell those above who leads."""
        self._env.deliver(Leads(self.number, self.leader))

    # --- recovery ---

    def restore(self, record: Changing | Entered) -> None:
        """One durable record; the last one holds."""
        if isinstance(record, Changing):
            self._be_in(record.view, is_changing=True)
        else:
            self._be_in(record.message.view, is_changing=False)
            self.new_view = record.message

    def records(self) -> Iterator[Entered | Changing]:
        """The durable state as it is now."""
        if self.new_view is not None:
            yield Entered(self.new_view)
        if self.is_changing:
            yield Changing(self.number)

    def take_up(self) -> None:
        """After a crash, and after the members were recovered."""
        if self.new_view is not None:
            self.reach = reach_of(self.new_view)
