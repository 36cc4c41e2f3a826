"""Members: who votes, changed through the order itself, at a checkpoint; and which nodes there are.

A configuration (``parts/log/configuration.py``) is a request like any other, signed by a key that ``admins`` names. In
the epoch that it names it takes effect at the first checkpoint that is a whole window after it: whoever may order
beyond that has executed it, and orders nothing there until the checkpoint is stable among the old members. So all
before is settled by them, all after by the new ones, and no order is ever voted on by both. An idle primary fills the
numbers up to there with null requests.

Then a new epoch begins, with its first view. Nodes that do not vote follow all the same, and may be members later.

Newcomers are met when the request is executed, with their public keys, so that they can catch up before they vote.
From those who leave a node parts when the epoch begins in which they do not vote.
"""

from __future__ import annotations

from quorate.parts import requests
from quorate.parts.log import configuration
from quorate.parts.log.configuration import Change, Newcomer, Nodes
from quorate.parts.log.entries import COMMAND, CONFIGURATION
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
        self._check_own(change)
        if not self.nodes.takes(change, self.founders) or not self._are_keys(change.newcomers):
            return COMMAND
        self._take_over_nodes(self.nodes.after(change))
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
        self._begin_epoch(Group(members, self.keys, old.epoch + 1, self.switch_at, old.members))

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
        self._part()

    def _take_over_members(self, image: Image, nodes: Nodes) -> None:
        if image.epoch > self.group.epoch:
            began = (image.epoch, image.began_at, image.past_members)
            self._begin_epoch(Group(image.members, self.keys, *began))
        self._take_over_nodes(nodes)
        self.next_members, self.switch_at = image.next_members, image.switch_at

    def _first_proof(self, stable: int, executed: int) -> int:
        """Which checkpoint a node that is this far can check: the next change of members, or else the last one."""
        return min((s for s in self.switches if s > stable and s >= executed), default=self.low)

    # --- which nodes there are ---

    def _check_own(self, change: Change) -> None:
        """Raises ValueError if an administrator introduces this node, and it was told otherwise of itself."""
        for newcomer in change.newcomers:
            if newcomer.node != self.env.id:
                continue
            if newcomer.node in self.founders:
                raise ValueError(
                    f"node {newcomer.node} joined the cluster later, and its configuration counts it among the first: "
                    "write in founders which nodes the cluster began with"
                )
            if newcomer.key != self.keys.public:
                raise ValueError(f"node {newcomer.node} was introduced with a public key that is not its own")

    def _are_keys(self, newcomers: tuple[Newcomer, ...]) -> bool:
        """Whether each is a public key, and nobody else's. The same on every node."""
        keyring = self.keys.keyring
        taken = {keyring.public(node) for node in self.founders}
        taken.update(newcomer.key for newcomer in self.nodes.joined)
        for newcomer in newcomers:
            if newcomer.key in taken or not keyring.is_key(newcomer.key):
                return False
            taken.add(newcomer.key)
        return True

    def _take_over_nodes(self, nodes: Nodes) -> None:
        """Meet who joined. The keys of those who left stay: a checkpoint that they signed may come yet."""
        self.nodes = nodes
        for newcomer in nodes.joined:
            self.keys = self.keys.knowing(newcomer.node, newcomer.key)
            is_here = newcomer.node not in nodes.left or self.group.has(newcomer.node)
            if is_here and newcomer.node not in self.env.peers:
                self.env.meet(newcomer.address, newcomer.key, newcomer.node)
        self.group.keys = self.keys
        self._part()

    def _part(self) -> None:
        """From those who left and vote no more."""
        for node in self.nodes.left:
            if node in self.env.peers and node != self.env.id and not self.group.has(node):
                self.env.part(node, "it has left the cluster")
