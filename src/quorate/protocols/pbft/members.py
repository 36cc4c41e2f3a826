"""Members: who votes, changed through the order itself, at a checkpoint.

A configuration (``parts/configuration.py``) is a request like any other, signed by a key that ``admins`` names. In the
epoch that it names it takes effect at the first checkpoint that is a whole window after it: whoever may order beyond
that has executed it, and orders nothing there until the checkpoint is stable among the old members. So all before is
settled by them, all after by the new ones, and no order is ever voted on by both. An idle primary fills the numbers up
to there with null requests.

Then a new epoch begins, with its first view. Nodes that do not vote follow all the same, and may be members later.
"""

from __future__ import annotations

from quorate.parts import configuration, requests
from quorate.parts.log import COMMAND, CONFIGURATION
from quorate.protocols.pbft.checkpoints import Checkpoints
from quorate.protocols.pbft.group import Group
from quorate.protocols.pbft.messages import Image


class Members(Checkpoints):
    """The part of a node that knows who votes."""

    def _kind_of(self, value: bytes) -> int:
        if configuration.PREFIX not in value:
            return COMMAND
        request = requests.decode(value)
        if request is None or request.client not in self.config.admins or len(request.commands) != 1:
            return COMMAND
        change = configuration.decode(request.commands[0])
        if change is None or change.epoch not in (None, self.group.epoch):
            return COMMAND  # a node that lies may bring an old one again
        if not set(change.members) <= set(self.env.peers):
            return COMMAND
        self.next_members = change.members  # of several before one checkpoint the last holds
        if not self.switch_at:
            every = self.config.checkpoint_batches
            self.switch_at = -(-(self.executed + self.config.window) // every) * every
        return CONFIGURATION

    def _switch_if_stable(self) -> None:
        """The checkpoint is stable: the old members have settled all up to it."""
        if not self.switch_at or self.executed < self.switch_at or self.low < self.switch_at:
            return
        if (proof := self._proofs.get(self.switch_at, self.stable)) is not None:
            self.switches[self.switch_at] = proof
        members, old = self.next_members, self.group
        self._begin_epoch(Group(members, old.peers, old.keys, old.epoch + 1, self.switch_at, old.members))

    def _begin_epoch(self, group: Group) -> None:
        self.group = group
        self.next_members, self.switch_at = (), 0
        if self.view < self.group.first_view:
            self.view, self.is_changing, self.new_view = self.group.first_view, False, None
        self.slots.clear()
        self._reach = 0
        self._changes.clear()
        self._view_alarm.stop()
        self._view_timeout_s = self.config.request_timeout_s
        self.next_sequence = self.executed + 1
        self._has_new_members = True

    def _take_over_members(self, image: Image) -> None:
        if image.epoch > self.group.epoch:
            peers, began = self.env.peers, (image.epoch, image.began_at, image.past_members)
            self._begin_epoch(Group(image.members, peers, self.keys, *began))
        self.next_members, self.switch_at = image.next_members, image.switch_at

    def _first_proof(self, stable: int, executed: int) -> int:
        """Which checkpoint a node that is this far can check: the next change of members, or else the last one."""
        return min((s for s in self.switches if s > stable and s >= executed), default=self.low)
