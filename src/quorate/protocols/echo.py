"""Echo: the smallest replicated log, to be copied by whoever writes a protocol. A fixed sequencer orders all values.

How it works. The node with the lowest id is the sequencer, for ever; its durable log *is* the truth. Every node, the
sequencer among them, forwards its values to the sequencer, which appends each once, persists, and sends the entries
to all. They leave after the write (the barrier of the kernel), so an entry that anybody has seen is decided and cannot
be lost. Whoever receives entries in order persists and delivers them; who misses some fetches them. A read asks for
the sequencer's last index and is ready when that much has been delivered: no later read can see less. Each node has at
most one Forward, one Ask and one Fetch a timer on its way, and sends them again until the answer comes.

Durable: the log, and by node the number of the last value taken from it (Counted). A process that starts begins a new
*life*, a number that it makes durable before it says anything. Numbers and rounds count within a life, so nothing
that was sent in an earlier one, or sent twice, is taken for new.

Limits, on purpose. No failover: while the sequencer is down nothing is decided and nothing is read. Safe under every
crash, loss, duplication and reordering, not under lies; a disk must keep what it has synced. The log stays in memory
and is never compacted. Values of a life that ended before they were taken are lost, as their client will find.

Source: Défago, Schiper, Urbán, "Total Order Broadcast and Multicast Algorithms" (ACM Computing Surveys 36(4), 2004),
the fixed sequencer, variant unicast-broadcast. Deviations: durable logs, so that nodes may crash and come back.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from quorate.kernel import Core, Env, Key, NodeId, Standing
from quorate.kernel.standing import FOLLOWER, LEADER
from quorate.parts.bounds import COUNTS, MESSAGE_SIZES, TIMES, BoundedConfig, Bounds
from quorate.parts.log.entries import Entry, Log
from quorate.parts.log.replicated import Busy, Decided, Leads, ReadFailed, ReadReady
from quorate.parts.wire import Index, Natural
from quorate.protocols.entry import ProtocolEntry

TERM = 1  # there is one leader, and no second term
BATCH_COUNT_MAX = 65_536


class EchoConfig(BoundedConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times in seconds of the local clock, sizes in bytes; ``pending_max`` bounds values, and reads, that wait."""

    bounds: ClassVar[Mapping[str, Bounds]] = {
        "resend_s": TIMES,
        "message_entries_max": Bounds(1, BATCH_COUNT_MAX),
        "message_bytes_max": MESSAGE_SIZES,
        "pending_max": COUNTS,
    }

    resend_s: float = 0.2
    message_entries_max: int = 4096
    message_bytes_max: int = 1 << 20
    pending_max: int = 65_536


# --- messages: the decoder checks types and ranges, the handlers check what they mean ---


class Forward(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """To the sequencer: my values number ``first``, ``first + 1``, ... of this life."""

    life: Natural
    first: Index
    values: Annotated[tuple[bytes, ...], Meta(max_length=BATCH_COUNT_MAX)]


class Taken(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """From the sequencer: the log has your values of this life up to number ``last``."""

    life: Natural
    last: Index


class Fetch(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """To the sequencer: send me entries from ``first_index`` on."""

    first_index: Index


class Ordered(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """From the sequencer: these entries are decided. More can be fetched at once, up to ``last_index``."""

    first_index: Index
    entries: Annotated[tuple[Entry, ...], Meta(max_length=BATCH_COUNT_MAX)]
    last_index: Index


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """To the sequencer: how far have you come? For the reads of this round of this life."""

    life: Natural
    round: Natural


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """From the sequencer: as far as ``index``, when this was asked."""

    life: Natural
    round: Natural
    index: Index


# --- records ---


class Appended(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Entries at the end of the log."""

    entries: tuple[Entry, ...]


class Counted(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The log has the node's values of this life up to number ``last``. Of this node: this life has begun."""

    node: NodeId
    life: Natural
    last: Index


class Echo(Core):
    """One node of a log with a fixed sequencer."""

    messages = (Forward, Taken, Fetch, Ordered, Ask, Answer)
    records = (Appended, Counted)

    def __init__(self, env: Env, config: EchoConfig = EchoConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__(env)
        self.config = config
        self.sequencer = min(env.peers)
        # Durable (Appended, Counted).
        self.log = Log()
        self.counted: dict[int, tuple[int, int]] = {}
        # Volatile.
        self.life = 0
        self.delivered = 0
        self._appended = 0  # how much of the log has been persisted and sent; the sequencer's
        self._stalled = False
        self._values = Log()  # own values that the sequencer has not taken yet, by number
        self._forwarding = False
        self._reads: list[int] = []  # tokens that wait for the next round
        self._asked: list[int] = []  # tokens of this round
        self._round = 0
        self._ready_index: int | None = None  # the answer to this round

    def standing(self) -> Standing:
        """As ``Core.standing``. Nobody is elected: the sequencer leads for ever."""
        role = LEADER if self.sequencer == self.env.id else FOLLOWER
        return Standing(role, self.sequencer, commit_index=self.delivered)

    # --- recovery ---

    def restore(self, record: Appended | Counted) -> None:
        """One durable record."""
        if isinstance(record, Appended):
            self.log.append(record.entries)
        else:
            self.counted[record.node] = record.life, record.last

    def checkpoint(self) -> Iterator[Appended | Counted]:
        """All of it: the log is never compacted."""
        for node, (life, last) in self.counted.items():
            yield Counted(node, life, last)
        for _, entries in self._batches(1):
            yield Appended(entries)

    def start(self) -> None:
        """A new life. What was recovered is decided, and is delivered again."""
        self.life = self.counted.get(self.env.id, (0, 0))[0] + 1
        self._count(self.env.id, self.life, 0)
        self.env.deliver(Leads(TERM, self.sequencer))
        for first, entries in self._batches(1):
            self.env.deliver(Decided(first, entries))
        self.delivered = self._appended = self.log.last_index
        self.on_timer("resend")

    # --- every node: values and reads from above ---

    def submit(self, values: Sequence[bytes]) -> None:
        """Values to be decided. They go out in ``settle``, those of a whole step together."""
        room = self.config.pending_max - len(self._values)
        self._values.append([Entry(TERM, value) for value in values[:room]])
        if len(values) > room:
            self.env.deliver(Busy(tuple(values[room:]), "too many values wait for the sequencer"))

    def read(self, tokens: Sequence[int]) -> None:
        """Reads; those that come while a round is on its way share the next."""
        room = self.config.pending_max - len(self._reads)
        self._reads += tokens[:room]
        if len(tokens) > room:
            self.env.deliver(ReadFailed(tuple(tokens[room:]), "too many reads wait for the sequencer"))

    def on_taken(self, sender: int, m: Taken) -> None:
        """The sequencer has some of our values: send it the next."""
        if self._is_wrong(sender) or m.life != self.life:
            return
        if m.last > self._values.last_index:
            self.env.blame(sender, "took values that were never sent")
        elif m.last > self._values.base_index:
            self._values.compact(m.last, TERM)
            self._forwarding = False

    def on_ordered(self, sender: int, m: Ordered) -> None:
        """Deliver what is next. After a gap the timer fetches what is missing."""
        if self._is_wrong(sender) or self._stalled:
            return
        first = self.delivered + 1
        if not 1 <= m.first_index <= first:
            return
        entries = m.entries[first - m.first_index :]
        if not entries:
            return
        if self.env.id != self.sequencer:  # whose log has them already
            self.log.append(entries)
            self.env.persist(Appended(entries))
        self.delivered += len(entries)
        self.env.deliver(Decided(first, entries))
        self._serve_reads()
        if m.last_index > self.delivered:
            self.env.send(self.sequencer, Fetch(self.delivered + 1))

    def on_answer(self, sender: int, m: Answer) -> None:
        """The reads of this round are ready when as much has been delivered."""
        if self._is_wrong(sender) or (m.life, m.round) != (self.life, self._round):
            return
        if self._asked and self._ready_index is None:
            self._ready_index = m.index
            self._serve_reads()

    def on_timer(self, key: Key) -> None:
        """Some message may have been lost: send again whatever has no answer. ``settle`` does the rest."""
        self.env.set_timer("resend", self.config.resend_s)
        self.env.send(self.sequencer, Fetch(self.delivered + 1))
        self._forwarding = False
        if self._asked and self._ready_index is None:
            self.env.send(self.sequencer, Ask(self.life, self._round))

    def on_stalled(self, why: str | None) -> None:
        """While the disk is full take nothing in. The others send it again when there is room."""
        self._stalled = why is not None

    def settle(self) -> None:
        """Once a step: persist and send what was put in order, forward values, ask for reads."""
        if self.env.id == self.sequencer:
            for first, entries in self._batches(self._appended + 1):
                self.env.persist(Appended(entries))
                self._appended += len(entries)
                self.env.broadcast(Ordered(first, entries, self._appended))
        if len(self._values) and not self._forwarding:
            self._forwarding = True
            first = self._values.base_index + 1
            values = tuple([entry.data for entry in self._batch(self._values, first)])
            self.env.send(self.sequencer, Forward(self.life, first, values))
        if self._reads and not self._asked:
            self._asked, self._reads = self._reads, []
            self._round += 1
            self.env.send(self.sequencer, Ask(self.life, self._round))

    # --- the sequencer ---

    def on_forward(self, sender: int, m: Forward) -> None:
        """Put the values that are new into the log; the count of them is durable with them, in one write."""
        if self._is_astray(sender) or self._stalled:
            return
        life, last = self.counted.get(sender, (0, 0))
        if m.life < life:
            return
        if m.life > life:
            life, last = m.life, 0
        if m.first > last + 1:
            self.env.blame(sender, "left out values")  # it sends the next only after a Taken, which was durable
            return
        values = m.values[last + 1 - m.first :]
        if values:
            last += len(values)
            self.log.append([Entry(TERM, value) for value in values])
            self._count(sender, life, last)
        self.env.send(sender, Taken(life, last))

    def on_fetch(self, sender: int, m: Fetch) -> None:
        """One batch; whoever needs more asks again."""
        if self._is_astray(sender):
            return
        if not 1 <= m.first_index <= self.log.last_index + 1:
            self.env.blame(sender, "fetches past the end of the log")
        elif m.first_index <= self.log.last_index:
            entries = self._batch(self.log, m.first_index)
            self.env.send(sender, Ordered(m.first_index, entries, self.log.last_index))

    def on_ask(self, sender: int, m: Ask) -> None:
        """Everything that anybody has seen decided is at or below our last index."""
        if not self._is_astray(sender):
            self.env.send(sender, Answer(m.life, m.round, self.log.last_index))

    # --- helpers ---

    def _is_wrong(self, sender: int) -> bool:
        """Whether somebody plays the sequencer."""
        if sender != self.sequencer:
            self.env.blame(sender, "speaks as the sequencer, and is not")
        return sender != self.sequencer

    def _is_astray(self, sender: int) -> bool:
        """Whether somebody takes us for the sequencer."""
        if self.env.id != self.sequencer:
            self.env.blame(sender, "takes this node for the sequencer")
        return self.env.id != self.sequencer

    def _count(self, node: int, life: int, last: int) -> None:
        self.counted[node] = life, last
        self.env.persist(Counted(node, life, last))

    def _serve_reads(self) -> None:
        if self._ready_index is not None and self._ready_index <= self.delivered:
            self.env.deliver(ReadReady(tuple(self._asked)))
            self._asked, self._ready_index = [], None

    def _batch(self, log: Log, first: int) -> tuple[Entry, ...]:
        return tuple(log.batch(first, self.config.message_entries_max, self.config.message_bytes_max))

    def _batches(self, first: int) -> Iterator[tuple[int, tuple[Entry, ...]]]:
        """The log from ``first`` on, in pieces that fit a message or a record."""
        while entries := self._batch(self.log, first):
            yield first, entries
            first += len(entries)


ENTRY = ProtocolEntry(
    name="echo",
    title="Echo (fixed sequencer)",
    core=Echo,
    config=EchoConfig,
    tolerates="crashes of any node but the first, and of the first until it is back",
    equipment="quorate.protocols.echo_equipment",
)
