"""Followers: what a leader knows of each of its followers, and how much it may send them.

How it works. What a follower *holds* is in one place, ``Followers.match``; a Progress has what is on its way to it.
While *probing*, the leader does not know where the logs agree and has one message out at a time. The first
acknowledgement makes it *stream*: messages go out without waiting, up to a number and a sum of bytes. While a snapshot
is on its way nothing else is. Whatever was lost is noticed at a heartbeat: a follower that owes an answer and has not
moved since the last one is probed again, from what it is known to hold, or, if nothing is known yet, with the same
probe. (From index 1 instead, a follower that was away for a moment would get the whole log or a snapshot.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence


class Transfer:
    """A snapshot on its way to a follower, piece by piece, one piece out at a time (``transfers.py``)."""

    __slots__ = (
        "began_at",
        "first_index",
        "heard_at",
        "idle_beats",
        "index",
        "next_offset",
        "patience_beats",
        "source",
    )

    def __init__(self, source: int, first_index: int, patience_beats: int, now: float) -> None:
        self.source = source
        """Whose turn it is to send pieces."""
        self.first_index = first_index
        """A snapshot before this is of no use."""
        self.index = self.next_offset = 0
        """Of which snapshot the follower has a part, and how much."""
        self.idle_beats = 0
        """Since there was progress, in this turn."""
        self.patience_beats = patience_beats
        self.heard_at = float("-inf")
        """When the follower had been heard, at the last beat."""
        self.began_at = now

    def needed(self, active_at: float) -> int:
        """After which index the log is needed; 0 where the follower was not heard since this began: it may be gone."""
        return self.index or (self.first_index if active_at >= self.began_at else 0)


class Progress:
    """What is on its way to one follower; ``next_index`` is what to send next."""

    __slots__ = (
        "_inflight",
        "_inflight_bytes",
        "_match_at_beat",
        "_probe_index",
        "active_at",
        "catches_up",
        "commit_sent",
        "next_index",
        "probing",
        "transfer",
    )

    def __init__(self, next_index: int, now: float) -> None:
        self.next_index = next_index
        self.commit_sent = 0
        self.active_at = now
        self.probing = True
        self._probe_index = next_index
        self.transfer: Transfer | None = None
        self.catches_up = False
        """Whether it was sent a snapshot, and needs the log behind that."""
        self._inflight: deque[tuple[int, int]] = deque()
        self._inflight_bytes = 0
        self._match_at_beat = 0

    def may_send(self, messages_max: int, bytes_max: int) -> bool:
        """Whether another message with entries may leave now."""
        if self.transfer is not None:
            return False
        if self.probing:
            return not self._inflight
        return len(self._inflight) < messages_max and self._inflight_bytes < bytes_max

    @property
    def owes(self) -> bool:
        """Whether a message with entries is out and not answered."""
        return bool(self._inflight)

    def sent(self, last_index: int, size_bytes: int) -> None:
        """A message with entries up to ``last_index`` left."""
        self._inflight.append((last_index, size_bytes))
        self._inflight_bytes += size_bytes
        self.next_index = last_index + 1

    def acknowledged(self, index: int, match_index: int) -> None:
        """The follower acknowledged ``index``, and holds our log up to ``match_index``, which is no lower."""
        inflight = self._inflight
        while inflight and inflight[0][0] <= index:
            self._inflight_bytes -= inflight.popleft()[1]
        if index >= self.next_index:
            self.next_index = index + 1
        if self.probing:
            self.probing = False
            self._forget_inflight()
            self.next_index = match_index + 1

    def probe(self, next_index: int) -> None:
        """Start again from here, one message at a time."""
        self.probing = True
        self._probe_index = self.next_index = next_index
        self._forget_inflight()

    def beat(self, match_index: int) -> None:
        """A heartbeat. What is out seems lost if the follower holds no more than at the last one.

        Then the same probe goes again, or what follows the last acknowledgement.
        """
        stuck = self._inflight and match_index == self._match_at_beat
        self._match_at_beat = match_index
        if stuck:
            self.probe(self._probe_index if self.probing else match_index + 1)

    def _forget_inflight(self) -> None:
        self._inflight.clear()
        self._inflight_bytes = 0


class Followers(dict[int, Progress]):
    """Node to Progress, what each node holds, and what is asked of all of them."""

    def __init__(self, nodes: Sequence[int], next_index: int, now: float) -> None:
        super().__init__({node: Progress(next_index, now) for node in nodes})
        self.match: dict[int, int] = dict.fromkeys(nodes, 0)
        """Up to where each node is known to hold the leader's log, durably: followers, and the leader's own disk."""
        self.incarnations: dict[int, bytes] = {}
        """As which a node was heard last, if it has lost its memory some time."""
        self.forgetful = 0
        """The mask of those of them that have not said yet that they count."""
        self.stateless = 0
        """The mask of those that are sent no state and have none to send: witnesses."""

    # --- nodes that come and go ---

    def met(self, node: int, next_index: int, now: float) -> None:
        """It follows from now on."""
        self[node] = Progress(next_index, now)
        self.match[node] = 0

    def parted(self, node: int) -> None:
        """It gets nothing more."""
        self.pop(node, None)
        self.match.pop(node, None)

    # --- nodes that lost their memory (``returns.py``) ---

    def heard(self, node: int, incarnation: bytes, next_index: int, now: float, *, counts: bool) -> None:
        """A node says as which it lives, and whether it counts. Of another one that it was nothing holds any more."""
        if self.incarnations.get(node) != incarnation:
            self.incarnations[node] = incarnation
            self.forgetful |= 1 << node
            self.met(node, next_index, now)
        if counts:
            self.forgetful &= ~(1 << node)

    def forgot(self, node: int, last_index: int, next_index: int, now: float) -> None:
        """Its log ends here: if more was heard, that was of an earlier life of it."""
        if self.match[node] > last_index:
            self.met(node, next_index, now)
        self[node].active_at = now

    @property
    def counted(self) -> dict[int, int]:
        """What those hold who count."""
        match, forgetful = self.match, self.forgetful
        return {node: index for node, index in match.items() if not forgetful >> node & 1} if forgetful else match

    # --- what they hold ---

    def acknowledged(self, node: int, index: int, now: float) -> None:
        """A follower, or the leader's own disk, holds the log up to ``index``."""
        match = self.match
        held = match.get(node, 0)
        if index > held:
            held = match[node] = index
        if progress := self.get(node):
            progress.active_at = now
            progress.acknowledged(index, held)

    def installed(self, node: int, index: int) -> None:
        """A follower has the snapshot at ``index``, and is sent what follows it."""
        self.match[node] = max(self.match[node], index)
        self[node].catches_up = True
        self[node].probe(index + 1)

    def needed(self, base_index: int, next_base_index: int, heard_after: float) -> int:
        """After which index those need the log who are sent a snapshot, or have just been, and were heard lately.

        The log starts after ``base_index``: who needs more gets another snapshot. It is ``next_base_index`` if nobody
        needs anything below that; who holds so much has caught up.
        """
        lowest = next_base_index
        for node, progress in self.items():
            if progress.active_at <= heard_after:
                continue
            if progress.transfer is not None:
                index = progress.transfer.needed(progress.active_at)
            elif progress.catches_up:
                index = self.match[node]
                progress.catches_up = index < next_base_index
            else:
                continue
            if base_index <= index < lowest:
                lowest = index
        return lowest

    # --- what to send them ---

    def wanting(self, last_index: int, messages_max: int, bytes_max: int) -> dict[int, list[int]]:
        """Who may be sent entries now, by the index that they want next: those who want the same get one message.

        Those without state are left out.
        """
        wanted: dict[int, list[int]] = {}
        stateless = self.stateless
        for node, progress in self.items():
            if (
                progress.next_index <= last_index
                and progress.may_send(messages_max, bytes_max)
                and not stateless >> node & 1
            ):
                wanted.setdefault(progress.next_index, []).append(node)
        return wanted

    def sent(self, nodes: Sequence[int], last_index: int, size_bytes: int, commit_index: int) -> None:
        """A message with entries up to ``last_index``, and that commit index, left for these nodes."""
        for node in nodes:
            progress = self[node]
            progress.sent(last_index, size_bytes)
            progress.commit_sent = commit_index

    def uninformed(self, commit_index: int, *, idle: bool = False) -> dict[int, list[int]]:
        """Who may know more to be committed than it was told, by how far; ``idle``: only who owes no answer."""
        behind: dict[int, list[int]] = {}
        match = self.match
        for node, progress in self.items():
            if progress.commit_sent >= commit_index:
                continue
            commit = min(commit_index, match[node])
            if progress.commit_sent < commit and not (idle and progress.owes):
                progress.commit_sent = commit
                behind.setdefault(commit, []).append(node)
        return behind

    def knowing(self, commit_index: int) -> Iterator[tuple[int, int]]:
        """Each follower, and up to where what is committed is known to be there: so much it may be told."""
        match = self.match
        for node in self:
            yield node, min(commit_index, match[node])

    def told(self, node: int, commit_index: int) -> None:
        """A heartbeat told the follower that so much is committed."""
        progress = self[node]
        progress.commit_sent = max(progress.commit_sent, commit_index)

    def beat(self, node: int) -> None:
        """A heartbeat: what seems lost on the way to the follower goes again."""
        self[node].beat(self.match[node])

    def heard_since(self, time: float) -> int:
        """The mask of those who answered something after that time."""
        mask = 0
        for node, progress in self.items():
            if progress.active_at > time:
                mask |= 1 << node
        return mask
