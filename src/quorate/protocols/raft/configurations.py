"""Members: whose votes count, by the newest configuration in the log (dissertation, chapter 4).

How it works. A change of members is an entry of the log. A server uses the newest configuration in its log from the
moment when the entry is there, whether it is committed or not (§4.1), and goes back to the one before if the entry is
removed again (§4.1: "a server may have to fall back to the previous configuration in its log"). So what holds follows
from the log alone, and is durable with it: each ``Configuration`` is a function of the one before and of one entry.

Where old and new majorities always meet, as when one server is added or removed, the change alone is enough (§4.1).
Otherwise it makes a *joint* configuration, in which elections and commitment take a majority of the old members and one
of the new (§4.3); when that is committed the leader appends the entry that leaves it, which has no data, and the new
members are alone. Whether they meet is computed, so both kinds are one rule.

A change that names an epoch that is over, a node that is not there, or that comes while members are joint, changes
nothing; nor does one after which witnesses were a quorum without any other server (``witnesses.py``). That is the same
on every server, as it depends on the founders and the log alone. What else stands between a change and the log is the
leader's to know: ``replication.py``.

Durable: the entries, and with each snapshot the configuration of its index (``SnapshottedAmong``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quorate.kernel import mask_of
from quorate.parts.log.configuration import (
    FOUNDERS_ALONE,
    Nodes,
    Voters,
    beginning,
    check_own,
    decode_change,
)
from quorate.parts.log.entries import CONFIGURATION, Entry
from quorate.parts.quorum import Joint, Majority, QuorumSystem
from quorate.parts.quorum.meet import disjoint_quorums
from quorate.protocols.raft.messages import Configured, RaftConfig


class Configuration:
    """What one entry of the log says, that at ``index``; 0: the founders'. ``next_members`` are there while joint.

    ``epoch``: the index of the change that began it; leaving a joint configuration is part of the same change.
    """

    __slots__ = ("epoch", "index", "mask", "members", "next_members", "nodes", "quorum", "witnesses")

    def __init__(
        self,
        index: int,
        epoch: int,
        members: tuple[int, ...],
        next_members: tuple[int, ...] = (),
        nodes: Nodes = FOUNDERS_ALONE,
    ) -> None:
        self.index = index
        self.epoch = epoch
        self.members = members
        self.next_members = next_members
        self.nodes = nodes
        old = Majority(members)
        self.quorum: QuorumSystem = Joint(old, Majority(next_members)) if next_members else old
        self.mask = mask_of((*members, *next_members))
        self.witnesses = mask_of(nodes.witnesses)
        """Those that keep no state, whether they vote or not."""

    def __repr__(self) -> str:
        joint = f" and {list(self.next_members)}" if self.next_members else ""
        return f"{list(self.members)}{joint} of index {self.index}, epoch {self.epoch}"

    @property
    def voters(self) -> Voters:
        """Who votes, as it is told."""
        return Voters(self.members, self.next_members, self.epoch)

    def after(self, index: int, entry: Entry, founders: Sequence[int], node: int) -> Configuration:
        """That of the log with one entry more, at ``index``; itself if the entry changes nothing.

        Raises ValueError if the entry introduces ``node``, which was told that it is a founder.
        """
        if not entry.data:
            return self._left(index) if self.next_members else self
        change = decode_change(entry.data)
        if change is None or self.next_members or change.epoch not in (None, self.epoch):
            return self
        check_own(node, founders, change)
        if not self.nodes.takes(change, founders):
            return self
        nodes = self.nodes.after(change)
        if Majority(change.members).is_quorum(mask_of(nodes.witnesses)):
            return self
        if disjoint_quorums(Majority(self.members), Majority(change.members)) is None:
            return Configuration(index, index, change.members, (), nodes)  # §4.1
        return Configuration(index, index, self.members, change.members, nodes)  # §4.3: C_old,new

    def _left(self, index: int) -> Configuration:
        """§4.3: C_new."""
        return Configuration(index, self.epoch, self.next_members, (), self.nodes)

    def recorded(self) -> Configured:
        """The same for a record or a message."""
        return Configured(self.index, self.epoch, self.members, self.next_members, self.nodes)


class Configurations(QuorumSystem):
    """Those of one server's log, the oldest first; and the quorums of the newest, which are the ones to use."""

    def __init__(self, config: RaftConfig, node: int, peers: Sequence[int]) -> None:
        """``peers`` are the founders if the config names none. Raises ValueError where members are no founders."""
        self.founders, first = beginning(config.founders, config.members, peers)
        self._node = node
        self._first = Configuration(0, 0, first)
        self._known = [self._first]
        self._base_index = 0
        """Up to here a snapshot stands for the log; the first configuration is that of this index."""
        self.committed = self._first
        """The newest that is known to be committed."""
        self.is_changed = True
        """Whether one came, went, or is known to be committed since somebody asked."""
        self._use()

    def _use(self) -> None:
        """§4.1: the newest in the log is in effect, committed or not."""
        self.is_changed = True
        self.quorum = self.newest.quorum
        self.members = self.quorum.members

    # --- the quorums in effect ---

    def __repr__(self) -> str:
        return f"Configurations({self._known})"

    def is_quorum(self, nodes: int) -> bool:
        """Of the configuration in effect: a majority, or two while it is joint (§4.3)."""
        return self.quorum.is_quorum(nodes)

    def reached(self, progress: Mapping[int, int]) -> int:
        """As the base says."""
        return self.quorum.reached(progress)

    # --- what they are ---

    @property
    def newest(self) -> Configuration:
        """The last in the log."""
        return self._known[-1]

    @property
    def is_pending(self) -> bool:
        """Whether the newest is not known to be committed, or is to be left."""
        return self.newest is not self.committed or bool(self.newest.next_members)

    @property
    def is_left(self) -> bool:
        """Whether it is certain that this server does not vote any more."""
        return self.newest is self.committed and not self.newest.mask >> self._node & 1

    def needs(self, node: int) -> bool:
        """Whether this server may have to lead.

        §4.2.2, figure 4.6: also one that is not in the newest configuration, until that is committed.
        """
        index = self.committed.index
        return any(known.mask >> node & 1 for known in self._known if known.index >= index)

    def voting(self) -> int:
        """The mask of whose votes count now, or would if what is not committed went again."""
        index, mask = self.committed.index, 0
        for known in self._known:
            if known.index >= index:
                mask |= known.mask
        return mask

    def at(self, index: int) -> Configuration | None:
        """That of the log up to ``index``; None where it is too long ago."""
        return next((known for known in reversed(self._known) if known.index <= index), None)

    def takes(self, index: int, entry: Entry) -> bool:
        """Whether an entry there would change something."""
        return self.newest.after(index, entry, self.founders, self._node) is not self.newest

    # --- the log changes ---

    def appended(self, first: int, entries: Sequence[Entry]) -> None:
        """Entries from ``first`` on are in the log. Raises as ``Configuration.after``."""
        for index, entry in enumerate(entries, first):
            if entry.kind == CONFIGURATION and index > self._base_index:
                newest = self.newest.after(index, entry, self.founders, self._node)
                if newest is not self.newest:
                    self._known.append(newest)
                    self._use()

    def truncated(self, first: int) -> None:
        """§4.1: the entries from ``first`` on are gone, and so is what they said."""
        first = max(first, self._base_index + 1)  # what a snapshot stands for is committed, and so stays
        if self.newest.index >= first:
            while self.newest.index >= first:
                self._known.pop()
            self._use()

    def commit(self, index: int) -> None:
        """All up to ``index`` is known to be committed."""
        if self.newest is not self.committed:
            known = self.at(index)
            if known is not None and known is not self.committed:
                self.committed = known
                self.is_changed = True

    # --- snapshots ---

    def check(self, said: Configured, index: int) -> None:
        """Raises ValueError for what no correct server says of a snapshot at ``index``."""
        ever = {*self.founders, *(newcomer.node for newcomer in said.nodes.joined)}
        if not said.members or not ever.issuperset((*said.members, *said.next_members)):
            raise ValueError("a configuration that names no members, or nodes outside the group")
        if not said.nodes.may_be(self.founders):
            raise ValueError("nodes that joined twice, or that were there before")
        if not said.epoch <= said.index <= index:
            raise ValueError("a configuration that comes later than the snapshot")

    def start_from(self, index: int, said: Configured | None, last_index: int) -> None:
        """A snapshot stands for the log up to ``index``, which now ends at ``last_index``. None: the founders vote."""
        if said is None:
            first = self._first
        else:
            first = Configuration(said.index, said.epoch, said.members, said.next_members, said.nodes)
        later = [known for known in self._known if index < known.index <= last_index]
        self._known = [first, *later]
        self._base_index = index
        self.committed = first
        self._use()

    def forget_before(self, index: int) -> None:
        """Nobody asks for those before ``index`` any more."""
        if index > self._base_index and index >= self._known[0].index:
            self._base_index = index
            while len(self._known) > 1 and self._known[1].index <= index:
                del self._known[0]
