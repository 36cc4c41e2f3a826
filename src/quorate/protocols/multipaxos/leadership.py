"""Leadership: what a node does while it leads (Lamport 2001, §3; van Renesse and Altinbuken 2015, commander).

How it works. ``fill`` puts values into slots: first what phase 1 found, and no-ops where it found nothing below that,
then what waits in the queue, as far as the window of open slots goes. The leader's own acceptor takes them at once; its
answer is a message to itself, which waits for the disk. ``replicate`` sends to each node what it lacks: new values, old
ones to who was away, a snapshot to who lags behind the log. ``advance`` counts.

A node that holds a chosen value is sent it like a new one, in this ballot. Accepting it again changes nothing (P2), so
learners catch up, and acceptors accept, by one and the same message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from quorate.kernel import Env
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.leaderlog.returns import Proposed, Returns, return_entry
from quorate.parts.leaderlog.sending import outgoing
from quorate.parts.leaderlog.transfers import Transfers
from quorate.parts.log.configuration import PREFIX
from quorate.parts.log.entries import COMMAND, CONFIGURATION, NOOP, Entry, size_of
from quorate.protocols.multipaxos.acceptor import Acceptor
from quorate.protocols.multipaxos.membership import Span, Spans
from quorate.protocols.multipaxos.messages import (
    Accept,
    Accepted,
    AcceptedAs,
    Heartbeat,
    MultiPaxosConfig,
    Prepare,
    SnapshotProgress,
)
from quorate.protocols.multipaxos.preparation import Preparation


class Leadership:
    """One ballot's, from the end of its phase 1 on."""

    def __init__(
        self,
        env: Env,
        config: MultiPaxosConfig,
        acceptor: Acceptor,
        members: Spans,
        preparation: Preparation,
        transfers: Transfers,
    ) -> None:
        self._env = env
        self._config = config
        self._acceptor = acceptor
        self._members = members
        self._preparation = preparation
        self._transfers = transfers
        self.ballot = preparation.ballot
        self.queue: deque[Entry] = deque()
        self.open_bytes = 0
        """Of what is proposed and not known to be chosen, and of what waits."""
        self.followers = Followers(env.others, acceptor.log.last_index + 1, env.now)
        """A node holds the log up to where it accepted in this ballot, or knows what is chosen."""
        self._proposed = Proposed()
        self._filled = False
        self._counts = False
        """Whether something came since ``advance`` that could make more chosen."""
        self._may_send = False
        """Whether something came since ``replicate`` that may let more leave."""

    # --- nodes that come and go ---

    def met(self, node: int) -> None:
        """It follows from now on."""
        self.followers.met(node, self._acceptor.log.last_index + 1, self._env.now)
        self._may_send = True

    def parted(self, node: int) -> None:
        """It gets nothing more."""
        self.followers.parted(node)

    # --- phase 2a ---

    def propose(self, values: Sequence[bytes]) -> bool:
        """Queue values for free slots; False where too much waits already."""
        if self.open_bytes > self._config.uncommitted_bytes_max:
            return False
        term = self.ballot[0]
        entries = [Entry(term, v, CONFIGURATION if v.startswith(PREFIX) else COMMAND) for v in values]
        self.open_bytes += size_of(entries)
        self.queue.extend(entries)
        return True

    def fill(self) -> None:
        """Propose in every slot that may be used now and for which there is a value."""
        first = self._acceptor.log.last_index + 1
        if not self.queue and self._preparation.highest_slot < first and not self._members.after(first - 1):
            return
        last = self._last_usable()
        entries = self._found(first, last)
        queue = self.queue
        if first + len(entries) > self._preparation.highest_slot:
            room = last - first - len(entries) + 1
            if len(queue) <= room:
                entries += queue
                queue.clear()
            else:
                entries += [queue.popleft() for _ in range(room)]
            entries += self._hasten(first + len(entries), last)
        if entries:
            self._acceptor.accept(first, entries)
            self._filled = self._counts = self._may_send = True

    def _last_usable(self) -> int:
        """The window (alpha), no slot whose members have not promised this ballot, and none of later members.

        So whoever accepts the first slot of new members is told, by the same message, that all before it is chosen.
        """
        chosen_index = self._acceptor.chosen_index
        if not self._preparation.covers(self._members.at(chosen_index + 1)):
            return chosen_index
        last, end = chosen_index + self._config.alpha, self._members.end(chosen_index + 1)
        return last if end is None else min(last, end)

    def _open_spans(self) -> list[Span]:
        """Those of slots that are not chosen, the oldest first."""
        slot = self._acceptor.chosen_index + 1
        return [self._members.at(slot), *self._members.after(slot)]

    def _found(self, first: int, last: int) -> list[Entry]:
        """P2c for the slots that phase 1 knows of; §3: a gap gets a no-op, so that what follows can be executed."""
        entries = []
        for slot in range(first, min(last, self._preparation.highest_slot) + 1):
            entry = self._preparation.pop(slot)
            if entry is None:
                entry = Entry(self.ballot[0], b"", NOOP)
            self.open_bytes += entry.size_bytes
            entries.append(entry)
        return entries

    def _hasten(self, slot: int, last: int) -> list[Entry]:
        """§3: no-ops up to the slot from which new members count, so that they do so soon."""
        later = self._members.after(slot - 1)
        if not later:
            return []
        entries = [Entry(self.ballot[0], b"", NOOP)] * max(0, min(last, later[-1].first_slot) - slot + 1)
        self.open_bytes += size_of(entries)
        return entries

    # --- sending ---

    def replicate(self) -> None:
        """Send what each node lacks and may get, and tell what is chosen."""
        if self._may_send:
            self._may_send = False
            self._send_values()
            self._announce()

    def _send_values(self) -> None:
        acceptor = self._acceptor
        for nodes, first_slot, entries in outgoing(
            self._config, acceptor.log, acceptor.chosen_index, self.followers, self._transfers
        ):
            self._send_accept(nodes, first_slot, entries)

    def _send_accept(self, nodes: tuple[int, ...], first_slot: int, entries: list[Entry]) -> None:
        # In parallel with our own write. The ballot is durable, as a quorum promised it; that nothing else is ever
        # proposed in it rests on its being used in one life only, and not on our own vote, which counts where it is
        # durable and not before.
        self._env.send_now(nodes, Accept(self.ballot, first_slot, entries, self._acceptor.chosen_index))

    def acknowledge(self) -> None:
        """The leader's own acceptor answers like any other, once its vote is durable."""
        if self._filled:
            self._filled = False
            self._env.send(self._env.id, Accepted(self.ballot, self._acceptor.log.last_index))

    def _announce(self) -> None:
        """Tell what is chosen to who owes no answer; who owes one is about to be sent something anyway."""
        for chosen_index, nodes in self.followers.uninformed(self._acceptor.chosen_index, idle=True).items():
            # What is chosen is durable at a quorum already.
            self._env.send_now(tuple(nodes), Heartbeat(self.ballot, chosen_index, 0))

    def beat(self, number: int, retries: bool) -> None:
        """Heartbeats, and again what seems lost. A node that has not answered in this ballot is asked how far it is."""
        self._may_send = True
        followers = self.followers
        for node, chosen_index in followers.knowing(self._acceptor.chosen_index):
            # No durable state: the ballot is, since it was promised, and so is what is chosen.
            self._env.send_now(node, Heartbeat(self.ballot, chosen_index, number))
            followers.told(node, chosen_index)
            if retries:
                followers.beat(node)
            progress = followers[node]
            if progress.probing and not progress.owes and progress.next_index > self._acceptor.log.last_index:
                self._send_accept((node,), progress.next_index, [])
            self._transfers.beat(node, followers)
        self.prepare_newcomers()

    def prepare_newcomers(self) -> None:
        """Members of later slots promise this ballot before anything is proposed there."""
        slot = self._acceptor.chosen_index + 1
        for span in self._open_spans():
            if not self._preparation.covers(span):
                for node in span.members:
                    if not self._preparation.promised >> node & 1:
                        first = self._preparation.ask(node, slot)
                        self._env.send(node, Prepare(self.ballot, first))

    def have_heard(self, span: Span) -> bool:
        """Whether a phase-1 quorum of these members know that they are members, and have what others compacted.

        Then one of them can lead. Who accepted their first slot in this ballot has recorded that all before is chosen.
        """
        match, base = self.followers.counted, self._acceptor.log.base_index
        enough = max(span.first_slot, base)
        followers = self.followers.items()
        ready = sum(1 << node for node, p in followers if match.get(node, 0) >= enough and p.commit_sent >= base)
        return span.quorums.phase1.is_quorum(ready)

    # --- counting (phase 2b) ---

    def accepted(self, node: int, slot: int) -> None:
        """A node's answer. Answers are of this ballot alone, so ballots never mix (§2.3).

        It may name a slot that we have not proposed in: one that members chose whom we do not know of yet.
        """
        if node not in self.followers.incarnations:  # else it is of an earlier life
            self.followers.acknowledged(node, slot, self._env.now)
            self._counts = self._may_send = True

    def accepted_as(self, node: int, m: AcceptedAs, returns: Returns, *, may_propose: bool) -> None:
        """The answer of one that lost its memory once. Unless it has returned as this one, that is proposed."""
        if node not in self.followers:
            return
        followers, now, next_slot = self.followers, self._env.now, self._acceptor.log.last_index + 1
        followers.heard(node, m.incarnation, next_slot, now, counts=m.counts)
        if not m.counts:
            followers.forgot(node, m.slot, next_slot, now)
        followers.acknowledged(node, m.slot, now)
        self._counts = self._may_send = True
        if may_propose and self._proposed.wants(returns, node, m.incarnation, self._acceptor.chosen_index):
            after = max(next_slot, self._preparation.highest_slot + 1) + len(self.queue)
            self._proposed.put(node, m.incarnation, after)
            entry = return_entry(self.ballot[0], node, m.incarnation)
            self.open_bytes += entry.size_bytes
            self.queue.append(entry)

    def received(self, node: int, m: SnapshotProgress) -> None:
        """A node stored a piece of a snapshot, or all of it, and with it all that was chosen up to there."""
        self._transfers.progressed(node, self.followers, m.index, m.next_offset, m.complete)
        self._counts = self._may_send = True

    def advance(self, choose: Callable[[int], None]) -> None:
        """Chosen: what a phase-2 quorum of a slot's members accepted, and all before it."""
        while self._counts:
            chosen_index = self._acceptor.chosen_index
            span, end = self._members.at(chosen_index + 1), self._members.end(chosen_index + 1)
            last = self._acceptor.log.last_index
            reached = min(span.quorums.phase2.reached(self.followers.counted), last)
            if end is not None:
                reached = min(reached, end)
            if reached > chosen_index:
                choose(reached)
            self._counts = chosen_index < reached < last  # the next slot may have other members

    def is_current(self) -> bool:
        """Whether a read may be served at what is chosen now: nothing that an earlier leader had chosen is missing.

        That is so once all that phase 1 found is chosen, and the members of the next slot have been asked.
        """
        chosen_index = self._acceptor.chosen_index
        is_asked = self._preparation.covers(self._members.at(chosen_index + 1))
        return is_asked and chosen_index >= self._preparation.highest_slot
