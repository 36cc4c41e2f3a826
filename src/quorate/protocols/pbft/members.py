"""EpochMembers: who votes, changed through the order itself, at a checkpoint; and which nodes there are.

A configuration (``parts/log/configuration.py``) is a request like any other, signed by a key that ``admins`` names; or
by the key of an invitation, if it does nothing but introduce the node that was invited. In the epoch that it names it
takes effect at the first checkpoint that is a whole window after it: whoever may order beyond that has executed it, and
orders nothing there until the checkpoint is stable among the old members. So all before is settled by them, all after
by the new ones, and no order is ever voted on by both. An idle primary fills the numbers up to there with null
requests.

Then a new epoch begins, with its first view. Nodes that do not vote follow all the same, and may be members later.

Newcomers are met when the request is executed, with their public keys, so that they can catch up before they vote.
From those who leave a node parts when the epoch begins in which they do not vote.
"""

from __future__ import annotations

from quorate.kernel import Env
from quorate.parts import requests
from quorate.parts.log import configuration
from quorate.parts.log.configuration import Change, Newcomer, Nodes
from quorate.parts.log.entries import COMMAND, CONFIGURATION
from quorate.protocols.pbft.group import Group, point_of
from quorate.protocols.pbft.history import History
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import Image, PbftConfig
from quorate.protocols.pbft.view import CurrentView


class EpochMembers:
    """What a node does about who votes."""

    def __init__(
        self,
        env: Env,
        config: PbftConfig,
        founders: tuple[int, ...],
        view: CurrentView,
        log: MessageLog,
        history: History,
    ) -> None:
        self._env = env
        self._config = config
        self._founders = founders
        self._view = view
        self._log = log
        self._history = history

    # --- a change ---

    def kind_of(self, value: bytes) -> int:
        """Of a request that is executed now: a command, or other members, which are to vote from then on."""
        if configuration.PREFIX not in value:
            return COMMAND
        request = requests.decode_signed_request(value)
        if request is None or len(request.commands) != 1:
            return COMMAND
        change = configuration.decode_change(request.commands[0])
        if change is None or change.epoch not in (None, self._view.group.epoch):
            return COMMAND  # a node that lies may bring an old one again
        if not self._may(request.client, change):
            return COMMAND
        self.check_own(change)
        history = self._history
        if not history.nodes.takes(change, self._founders) or not self._are_keys(change.newcomers):
            return COMMAND
        self._take_over_nodes(history.nodes.after(change))
        at = history.switch_at
        if not at:
            every = self._config.checkpoint_batches
            at = -(-(history.executed + self._config.window) // every) * every
        self._will_change(change.members, at)  # of several before one checkpoint the last holds
        return CONFIGURATION

    def _may(self, client: bytes, change: Change) -> bool:
        """Whether whoever signed may have that: an administrator anything, and who was invited may join."""
        if client in self._config.admins:
            return True
        members = self._history.next_members or self._view.group.members
        return configuration.is_join(change, self._history.nodes, members, client)

    def _will_change(self, members: tuple[int, ...], at: int) -> None:
        """Others vote after that checkpoint, and what the present members prove beyond it proves nothing.

        They may well have signed it: as members of later ones, or as liars.
        """
        history = self._history
        history.change_members(members, at)
        if point_of(history.ahead)[0] > at:
            history.forget_ahead()
        if history.low < at < point_of(history.footing)[0]:
            history.lose_footing()
        self._log.forget_proven(at)

    def switch_if_stable(self) -> None:
        """The checkpoint is stable: the old members have settled all up to it."""
        history = self._history
        if not history.is_switching or history.low < history.switch_at:
            return
        history.switched()
        old = self._view.group
        members = Group(history.next_members, self._view.keys, old.epoch + 1, history.switch_at, old.members)
        self.begin_epoch(members)

    def begin_epoch(self, group: Group) -> None:
        """These vote from now on, in views of their own."""
        history = self._history
        self._view.begin_epoch(group)
        history.change_members((), 0)
        history.began_at = group.began_at
        if history.ahead is not None and not group.is_stable(history.ahead):
            history.forget_ahead()
        if history.low <= group.began_at:  # after a crash it may be of an epoch that comes later
            self.check_footing()
        self._log.begin_epoch(history.executed)
        self._log.drop_ordered(group.began_at)  # who did not vote then shows nobody what it saw
        self._part()

    def check_footing(self) -> None:
        """Those who vote now are to have made the checkpoint on which votes rest."""
        history = self._history
        if history.footing is not None and not self._view.group.is_stable(history.footing):
            history.lose_footing()

    def take_over(self, image: Image, nodes: Nodes) -> None:
        """The members of a snapshot, and which nodes there are."""
        if image.epoch > self._view.group.epoch:
            began = (image.epoch, image.began_at, image.past_members)
            self.begin_epoch(Group(image.members, self._view.keys, *began))
        self._take_over_nodes(nodes)
        if image.switch_at:
            self._will_change(image.next_members, image.switch_at)
        else:
            self._history.change_members((), 0)

    # --- which nodes there are ---

    def check_own(self, change: Change) -> None:
        """Raises ValueError if an administrator introduces this node, and it was told otherwise of itself."""
        for newcomer in change.newcomers:
            if newcomer.node != self._env.id:
                continue
            if newcomer.node in self._founders:
                raise ValueError(
                    f"node {newcomer.node} joined the cluster later, and its configuration counts it among the first: "
                    "write in founders which nodes the cluster began with"
                )
            if newcomer.key != self._view.keys.public:
                raise ValueError(f"node {newcomer.node} was introduced with a public key that is not its own")

    def _are_keys(self, newcomers: tuple[Newcomer, ...]) -> bool:
        """Whether each is a public key, and nobody else's. The same on every node."""
        keyring = self._view.keys.keyring
        taken = {keyring.public(node) for node in self._founders}
        taken.update(newcomer.key for newcomer in self._history.nodes.joined)
        for newcomer in newcomers:
            if newcomer.key in taken or not keyring.is_key(newcomer.key):
                return False
            taken.add(newcomer.key)
        return True

    def _take_over_nodes(self, nodes: Nodes) -> None:
        """Meet who joined. The keys of those who left stay: a checkpoint that they signed may come yet."""
        self._history.nodes = nodes
        for newcomer in nodes.joined:
            self._view.know(newcomer.node, newcomer.key)
            is_here = newcomer.node not in nodes.left or self._view.group.has(newcomer.node)
            if is_here and newcomer.node not in self._env.peers:
                self._env.meet(newcomer.address, newcomer.key, newcomer.node)
        self._part()

    def _part(self) -> None:
        """From those who left and vote no more."""
        for node in self._history.nodes.left:
            if node in self._env.peers and node != self._env.id and not self._view.group.has(node):
                self._env.part(node, "it has left the cluster")
