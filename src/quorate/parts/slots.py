"""Slots: a replicated log made of single-shot decisions, one core a slot. Naive, and complete.

How it works. Slot ``n`` is a child core at ``("slot", n)`` that decides one value among all nodes. A bounded window of
slots is open, after the last that this node has delivered or a quorum holds. Each value from above is proposed in the
lowest open slot that this node does not use yet; where another value wins, it is proposed again in a later slot.
Decisions are recorded, delivered in the order of slots, and their child retires. Whoever sees a gap below a decided
slot for a beat proposes a no-op there.

Decided slots answer no more, so the rest is between parents. Each says how far it has come (``Reached``), at once when
that changes and once a beat; whoever is behind fetches. What a quorum has reached is over for all: whichever quorum
lives, a node of it can tell the value. It moves everybody's window, and a slot that has nothing to remember here is
passed by. One that has stays open until its value is here, as its votes may be the last copy of it. What fewer have
reached may be lost with them, so it stays open, to be decided again, with the same value.

A read proposes a no-op and is ready when that is delivered: each slot below was decided by then, and no slot that was
decided before the read came can have taken it. Reads that come meanwhile share the next. A value carries the
node, its life (durable, one a process) and a serial, so that a node knows its own; a child decides one of them at most
once. What is retried from above may be decided twice, which sessions absorb.

``Leads`` is only a hint: the lowest node that was heard lately. Clients that follow it keep proposers from duelling;
nothing is wrong where nodes disagree about it, as each proposes for itself.

Durable: ``Life``, ``Chosen``, and what the children record. Limits, on purpose: all decided values stay in memory and
in the journal (no snapshots, no compaction), one value a slot, and no defence against lies.

So the log ends when it has ``log_bytes_max``. At three quarters of that commands are refused, which leaves the last for
what all nodes have under way, each its part, and for the no-ops of reads; reads are refused when it is used up. Whoever
holds more, as others have larger budgets, is silent and takes no more in, as if its disk were full.

The child: ``submit((value,))`` proposes, and it delivers the decided value, as bytes, at most once.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from quorate.kernel import Core, Env, Key, Name, Standing
from quorate.kernel.standing import FOLLOWER, LEADER
from quorate.parts.bounds import COUNTS, MESSAGE_SIZES, SIZES, TIMES, BoundedConfig, Bounds
from quorate.parts.log.entries import COMMAND, NOOP, Entry
from quorate.parts.log.replicated import Busy, Decided, Dropped, Leads, ReadFailed, ReadReady
from quorate.parts.quorum import Majority, QuorumSystem
from quorate.parts.wire import Index, Natural

SLOT = "slot"
BEAT = "beat"
TERM = 0  # a slot has no term
BATCH_COUNT_MAX = 65_536
PASSED_RETIRED_MAX = 1024
"""Passed slots whose late messages are dropped at once; the few for older ones wait in the kernel, which is bounded."""
PORTION_ENTRIES = 4096
PORTION_BYTES = 4 << 20
"""Of what was recovered, so much goes up at a time: no App is to be at it for long before something else has a turn."""
TAG = struct.Struct(">HQQB")
"""Before each value: node, life, serial, kind."""
VALUE_OVERHEAD_BYTES = 64
"""What a value counts for in the limits beside its own bytes."""
FULL = "the log in memory is full, and Paxos keeps all of it: raise memory_bytes_max, or use multipaxos"


def _size_of(value: bytes) -> int:
    """What a value counts for in the limits."""
    return len(value) + VALUE_OVERHEAD_BYTES


class SlotsConfig(BoundedConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times in seconds of the local clock, sizes in bytes; ``pending_max`` bounds values, and reads, that wait, and
    ``log_bytes_max`` the log, all of which is in memory."""

    bounds: ClassVar[Mapping[str, Bounds]] = {
        "window": Bounds(1, 4096),
        "beat_s": TIMES,
        "suspect_s": TIMES,
        "message_entries_max": Bounds(1, BATCH_COUNT_MAX),
        "message_bytes_max": MESSAGE_SIZES,
        "pending_max": COUNTS,
        "log_bytes_max": SIZES,
    }

    window: int = 32
    beat_s: float = 0.1
    suspect_s: float = 1.0
    message_entries_max: int = 1024
    message_bytes_max: int = 1 << 20
    pending_max: int = 65_536
    log_bytes_max: int = 1 << 30

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beat_s >= self.suspect_s:
            raise ValueError(f"beat_s is {self.beat_s}: it must be below suspect_s, {self.suspect_s}")


# --- messages ---


class Reached(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """I hold the decided values of all slots up to ``index``, and a quorum holds them up to ``held``."""

    index: Index
    held: Index = 0


class Fetch(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Send me the decided values from slot ``first_index`` on."""

    first_index: Index


class Told(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """These are decided. I have more, up to ``last_index``."""

    first_index: Index
    values: Annotated[tuple[bytes, ...], Meta(max_length=BATCH_COUNT_MAX)]
    last_index: Index


# --- records ---


class Life(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """This node's process of this number has begun."""

    number: Natural


class Chosen(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The decided values of slots ``first_index``, ``first_index + 1``, ..."""

    first_index: Index
    values: tuple[bytes, ...]


def entry_of_value(value: bytes) -> Entry:
    """What is delivered for a decided value. One without a tag, which no correct node proposes, is a no-op."""
    if len(value) < TAG.size or value[TAG.size - 1] != COMMAND:
        return Entry(TERM, b"", NOOP)
    return Entry(TERM, value[TAG.size :])


class Slots(Core):
    """One node's log over ``single``, the class of its children. A subclass names it in ``children`` too.

    Of ``quorum`` every set has a node in common with each set of nodes that can decide a slot; None: majorities.
    """

    messages = (Reached, Fetch, Told)
    records = (Life, Chosen)

    def __init__(
        self,
        env: Env,
        config: SlotsConfig,
        single: Callable[..., Core],
        *args: Any,
        quorum: QuorumSystem | None = None,
    ) -> None:
        super().__init__(env)
        self.config = config
        self._quorum = quorum or Majority(env.peers)
        self._single = single
        self._single_args = args
        # Durable (Life, Chosen).
        self.life = 0
        self.values: list[bytes] = []  # of slots 1, 2, ...
        self.ahead: dict[int, bytes] = {}  # decided beyond a gap
        # Volatile.
        self.open: dict[int, Core] = {}
        self.leader: int | None = None
        self._next = 1  # the lowest slot that was neither opened nor passed by
        self._passed = 0  # as far as we know that a quorum holds all values
        self._stalled: str | None = None
        self._queue: deque[bytes] = deque()  # tagged values to be proposed
        self._mine: dict[int, bytes] = {}  # proposed by us, by slot
        self._own_bytes = 0  # of what waits, and what is proposed by us
        self._bytes = 0  # of what is decided
        self._serial = 0
        self._reads: list[int] = []  # tokens that wait for the next no-op
        self._asked: list[int] = []  # tokens that wait for this one
        self._asked_value = b""
        self._reached: dict[int, int] = {}  # what the others say
        self._heard: dict[int, float] = {}
        self._announced = 0
        self._fetching = False
        self._gap_at_beat = 0
        self._started_at = 0.0

    @property
    def delivered(self) -> int:
        """The last slot that was delivered; all up to it are."""
        return len(self.values)

    def standing(self) -> Standing:
        """As ``Core.standing``. Nobody is elected: the leader is the one to propose at."""
        return Standing(LEADER if self.leader == self.env.id else FOLLOWER, self.leader, commit_index=self.delivered)

    size = staticmethod(_size_of)

    @property
    def _silent(self) -> str | None:
        """Why this node takes nothing in, and says nothing."""
        if self._stalled is None and self._bytes > self.config.log_bytes_max * 5 // 4:
            return FULL
        return self._stalled

    @property
    def floor(self) -> int:
        """All slots up to this one are decided, here or at a node that said so."""
        return max(len(self.values), *self._reached.values(), 0)

    def _held(self) -> int:
        """How far a quorum is, as its nodes said."""
        reached = {**self._reached, self.env.id: self.delivered}
        mask = 0
        for node in sorted(reached, key=reached.__getitem__, reverse=True):
            mask |= 1 << node
            if self._quorum.is_quorum(mask):
                return reached[node]
        return 0

    # --- recovery ---

    def restore(self, record: Life | Chosen) -> None:
        """One durable record."""
        if isinstance(record, Life):
            self.life = record.number
        else:
            for slot, value in enumerate(record.values, record.first_index):
                self.ahead[slot] = value
                self._close(slot)
            self._collect()

    def revive(self, name: Name) -> None:
        """A slot that had something to remember."""
        if name[0] != SLOT or name[1] < 1:
            raise ValueError(f"the journal holds a record of {name}, which is no slot")
        self._spawn(name[1])

    def checkpoint(self) -> Iterator[Life | Chosen]:
        """All of it: the log is never compacted."""
        if self.life:
            yield Life(self.life)
        first = 1
        while values := self._batch(first):
            yield Chosen(first, values)
            first += len(values)
        for slot, value in self.ahead.items():
            yield Chosen(slot, (value,))

    def start(self) -> None:
        """A new life. What was recovered is decided, and is delivered again."""
        self._started_at = self.env.now
        self.life += 1
        self.env.persist(Life(self.life))
        self._bytes = sum(map(self.size, self.values)) + sum(map(self.size, self.ahead.values()))
        first = 1
        while values := self._some(first, PORTION_ENTRIES, PORTION_BYTES):
            self.env.deliver(Decided(first, [entry_of_value(value) for value in values]))
            first += len(values)
        self._next = self.delivered + 1
        self.on_timer(BEAT)

    # --- from above ---

    def submit(self, values: Sequence[bytes]) -> None:
        """Values to be decided; they are proposed in ``settle``."""
        if self._silent is not None and self._silent != FULL:
            self.env.deliver(Dropped(tuple(values), self._silent))
            return
        refused: dict[str, list[bytes]] = {}
        for value in values:
            if (why := self._why_not(value)) is not None:
                refused.setdefault(why, []).append(value)
            else:
                self._wait(self._tagged(COMMAND, value))
        for why, some in refused.items():
            self.env.deliver(Busy(tuple(some), why))

    def _why_not(self, value: bytes) -> str | None:
        """Why a command cannot wait for a slot; None: it can."""
        log_bytes_max, size = self.config.log_bytes_max, self.size(value)
        if self._bytes + self._own_bytes + size > log_bytes_max * 3 // 4:
            return FULL
        part = log_bytes_max // (4 * len(self.env.peers))
        if len(self._queue) >= self.config.pending_max or (self._own_bytes and self._own_bytes + size > part):
            return "too many values wait for a slot"
        return None

    def _wait(self, value: bytes) -> None:
        self._queue.append(value)
        self._own_bytes += self.size(value)

    def read(self, tokens: Sequence[int]) -> None:
        """Reads; those that come while a no-op is on its way share the next."""
        is_full = self._bytes >= self.config.log_bytes_max
        room = 0 if is_full else self.config.pending_max - len(self._reads)
        self._reads += tokens[:room]
        if len(tokens) > room:
            self.env.deliver(ReadFailed(tuple(tokens[room:]), FULL if is_full else "too many reads wait for a slot"))

    def on_stalled(self, why: str | None) -> None:
        """While the disk is full propose nothing and take nothing in."""
        self._stalled = why

    # --- parents among themselves ---

    def on_reached(self, sender: int, m: Reached) -> None:
        """Somebody lives, and has come so far."""
        if sender == self.env.id:
            return
        self._heard[sender] = self.env.now
        if m.index > self._reached.get(sender, 0) or m.held > self._passed:
            self._reached[sender] = max(m.index, self._reached.get(sender, 0))
            self._move_window(m.held)
        if m.index >= self.delivered + self.config.window:
            self._fetch()  # far behind: do not wait for the beat
        if sender == self.env.peers[0] != self.leader:
            self._lead()

    def on_fetch(self, sender: int, m: Fetch) -> None:
        """One batch; whoever needs more asks again."""
        if 1 <= m.first_index <= self.delivered:
            self.env.send(sender, Told(m.first_index, self._batch(m.first_index), self.delivered))

    def on_told(self, sender: int, m: Told) -> None:
        """Take what is next."""
        first = m.first_index
        is_next = 1 <= first <= self.delivered + 1 <= first + len(m.values) - 1
        if not is_next or self._silent is not None:
            return
        for slot, value in enumerate(m.values, first):
            self._choose(slot, value)
        self._deliver()
        self._fetching = False
        if m.last_index > self.delivered:
            self._fetch()

    def on_timer(self, key: Key) -> None:
        """A beat: say how far we are, fetch what is missing, fill a gap that was there at the last beat too."""
        if key != BEAT:
            return
        self.env.set_timer(BEAT, self.config.beat_s)
        if self._silent is None:  # else let clients go elsewhere
            self._announce()
        self._fetching = False
        if self.floor > self.delivered:
            self._fetch()
        gap = self.delivered + 1
        if self.ahead and self._gap_at_beat == gap and self._silent is None:
            last = max(self.ahead)
            for slot in sorted(slot for slot in self.open if slot < last and slot not in self._mine):
                noop = self._tagged(NOOP)
                self._own_bytes += self.size(noop)
                self._propose(slot, noop)
        self._gap_at_beat = gap if self.ahead else 0
        self._lead()

    def settle(self) -> None:
        """Once a step: say how far we have come, propose what waits."""
        self._move_window()
        if self._announced < self.delivered:
            self._announce()  # before the proposals, so that they find their slots open
        if self._silent is not None:
            return
        if self._reads and not self._asked:
            self._asked, self._reads = self._reads, []
            self._asked_value = self._tagged(NOOP)
            self._queue.appendleft(self._asked_value)
            self._own_bytes += self.size(self._asked_value)
        if self._queue:
            floor = self.floor
            free = sorted(slot for slot in self.open if slot > floor and slot not in self._mine)
            for slot in free[: len(self._queue)]:
                self._propose(slot, self._queue.popleft())

    # --- slots ---

    def _move_window(self, held: int = 0) -> None:
        """At once, not at the end of the step: a step may bring messages of hundreds of slots."""
        self._pass_by(max(held, self._held()))
        self._open_window()

    def _pass_by(self, held: int) -> None:
        """A quorum holds these: unless we voted there, messages that still come for them are dropped."""
        if held <= self._passed:
            return
        self._passed = held
        for slot in sorted(slot for slot in self.open if slot <= held):
            if next(iter(self.open[slot].checkpoint()), None) is None:
                self._close(slot)
                self._fetch()  # what decided here would come too late
        for slot in range(max(self._next, held - PASSED_RETIRED_MAX + 1), held + 1):
            if slot not in self.open and slot > self.delivered and slot not in self.ahead:
                self.env.retire((SLOT, slot))
        self._next = max(self._next, held + 1)

    def _open_window(self) -> None:
        """Also on a full disk: slots that stay silent keep messages from piling up."""
        last = max(self._passed, self.delivered) + self.config.window
        for slot in range(max(self._next, self.delivered + 1), last + 1):
            if slot not in self.open and slot not in self.ahead:
                self._spawn(slot)
                if (why := self._silent) is not None:
                    self.open[slot].on_stalled(why)
        self._next = max(self._next, last + 1)

    def _spawn(self, slot: int) -> None:
        upcall = partial(self._decided, slot)
        self.open[slot] = self.env.spawn((SLOT, slot), self._single, *self._single_args, upcall=upcall)

    def _close(self, slot: int) -> None:
        self.open.pop(slot, None)
        self.env.retire((SLOT, slot))

    def _propose(self, slot: int, value: bytes) -> None:
        self._mine[slot] = value
        self.open[slot].submit((value,))

    def _decided(self, slot: int, value: Any) -> None:
        """A child has decided. What else it may say, that a value of ours was dropped, the decision says as well."""
        if isinstance(value, bytes):
            self._choose(slot, value)
            self._deliver()

    def _choose(self, slot: int, value: bytes) -> None:
        if slot <= self.delivered or slot in self.ahead:
            return
        self.ahead[slot] = value
        self._bytes += self.size(value)
        self.env.persist(Chosen(slot, (value,)))
        self._close(slot)
        mine = self._mine.pop(slot, None)
        if mine is None:
            return
        if mine != value and (mine[TAG.size - 1] == COMMAND or mine == self._asked_value):
            self._queue.appendleft(mine)  # another won; a no-op that filled a gap has done its work
        else:
            self._own_bytes -= self.size(mine)

    def _collect(self) -> None:
        """Move what follows without a gap from ``ahead`` to ``values``."""
        while (value := self.ahead.pop(len(self.values) + 1, None)) is not None:
            self.values.append(value)

    def _deliver(self) -> None:
        first = self.delivered + 1
        self._collect()
        if new := self.values[first - 1 :]:
            self.env.deliver(Decided(first, [entry_of_value(value) for value in new]))
            if self._asked and self._asked_value in new:
                self.env.deliver(ReadReady(tuple(self._asked)))
                self._asked, self._asked_value = [], b""
            self._move_window()

    # --- helpers ---

    def _tagged(self, kind: int, data: bytes = b"") -> bytes:
        self._serial += 1
        return TAG.pack(self.env.id, self.life, self._serial, kind) + data

    def _announce(self) -> None:
        """After the disk: others pass by what we say we hold."""
        self._announced = self.delivered
        for peer in self.env.others:
            self.env.send(peer, Reached(self.delivered, self._passed))

    def _fetch(self) -> None:
        """From any node that has more; another one next time, perhaps."""
        ahead = [node for node, index in sorted(self._reached.items()) if index > self.delivered]
        if ahead and not self._fetching and self._silent is None:
            self._fetching = True
            self.env.send(ahead[int(self.env.rng.random() * len(ahead))], Fetch(self.delivered + 1))

    def _lead(self) -> None:
        """Who to propose at: the lowest node heard lately. A process that has just begun waits for that of all."""
        since = self.env.now - self.config.suspect_s
        lately = [node for node, at in sorted(self._heard.items()) if at >= since]
        leader = min(lately if self._silent is not None and lately else [self.env.id, *lately])
        is_sure = leader == self.env.peers[0] or self._started_at <= since
        if is_sure and leader != self.leader:
            self.leader = leader
            self.env.deliver(Leads(TERM, leader))

    def _batch(self, first: int) -> tuple[bytes, ...]:
        """Decided values from a slot on, as many as fit a message, but one at least."""
        return self._some(first, self.config.message_entries_max, self.config.message_bytes_max)

    def _some(self, first: int, entries_max: int, bytes_max: int) -> tuple[bytes, ...]:
        values = self.values[first - 1 : first - 1 + entries_max]
        size = 0
        for position, value in enumerate(values):
            size += len(value)
            if size > bytes_max and position > 0:
                return tuple(values[:position])
        return tuple(values)
