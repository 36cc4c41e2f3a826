"""Outbox: sends messages of epochs again until nobody needs them, and hands each on once.

What the owner does. It has ``letter_type(...)`` and EpochBeat in its ``messages`` and Life in its ``records``, and
passes on ``on_letter``, ``on_epoch_beat``, ``on_timer``, ``on_stalled``, ``restore`` of a Life and ``checkpoint``. In
``start`` it calls ``Outbox.start`` before all else. It spawns children through ``Outbox.spawn``, for the epochs up to
``ahead_max`` beyond its own, and calls ``advance`` when an epoch is over. The children know nothing of this: what they
send and broadcast goes through the Outbox of their epoch, and what comes for them comes to their handlers.

Sending again is clocked by beats. A beat that answers our beat t says what is missing of all that left before t, so it
is sent again, and not once more before a beat that left after it is answered: one resend is under way to a peer at
most, none to a peer that cannot hear us, and the time adapts to the link. While nothing comes of it, it doubles.

An acknowledgement only keeps a message from being sent again. It is kept until its receivers have left the epoch, as a
receiver that crashes may have to ask for all of it once more: what it counted was not durable.

Lives. Numbers begin anew with each process, so Letters and acknowledgements name the life of the sender whose numbers
they are. A life is a recorded count, not a nonce: it is durable before the first Letter of it leaves, so no two lives
of a node share one, whatever the seed of its chance; and it has an order, so what is late of an earlier life is known
for that, where two nonces would replace each other for ever. A peer that shows a later life has forgotten what came, so
everything of its epoch is sent again. Within a life a message is handed on once; a sender that restarted says its words
again under new numbers, which a protocol that counts each sender once does not notice.

After a restart the Outbox is empty. Cores that are recovered by records say again in ``start`` what their records say
that they said; those recovered by inputs do while they are replayed. ``start`` numbers what is there. An Outbox that is
itself replayed keeps its life and its numbers: whatever left the node rests on inputs that are durable.

A peer is not trusted: what is out of order, of a past life, or about what was never sent, is dropped and not blamed,
since a node that is late says the same. No peer makes this node send more than the whole of what it keeps once, and one
resend a beat after that, or keep more than the limits of the ReliableConfig.

Durable: Life.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Generic

from quorate.kernel import Env, Key, Name, Path, Received, mask_of
from quorate.kernel.core import Maker, is_by_inputs
from quorate.kernel.env import ChildT
from quorate.parts.reliable.children import Children
from quorate.parts.reliable.messages import EpochBeat, Letter, Life, ReliableConfig
from quorate.parts.reliable.peer import Peer
from quorate.parts.reliable.store import Store

BEAT: Final = "epoch beat"
"""The key of the Outbox's timer."""


class Outbox:
    """One node's end of all links. ``letter`` is what ``letter_type`` made."""

    def __init__(self, env: Env, letter: type[Letter], config: ReliableConfig) -> None:
        self.config = config
        self.epoch = 0
        """The epoch that this node is in."""
        self.life = 0
        self.tick = 0
        """The beats of this life."""
        self.resent = 0
        """Letters that were sent again."""
        self._env = env
        self._make = letter
        self._started = False
        self._is_stalled = False
        self._store = Store(config)
        self._children = Children(config)
        self._peers: dict[int, Peer] = {}

    # --- the owner's life ---

    def restore(self, record: Life) -> None:
        """The record of an earlier life."""
        self.life = max(self.life, record.number)

    def checkpoint(self) -> Iterator[Life]:
        """What replaces the records so far."""
        if self.life:
            yield Life(self.life)

    def start(self, epoch: int, held_from: int | None = None) -> None:
        """Begin in ``epoch``, before any other core of the tree starts.

        ``held_from``: the first epoch of which the cores are going to say again all that they said, if below ``epoch``.
        Where it is not given, what they said while they were replayed counts.
        """
        if not self._started:
            self._started = True
            self.life += 1
            self._env.persist(Life(self.life))
            self.epoch = epoch
            first = self._store.first() if held_from is None else held_from
            self._store.drop_below(epoch if first is None else min(first, epoch))
            self._children.drop_below(epoch)
        for each in range(self.epoch, self.epoch + self.config.ahead_max + 1):
            for number, entry in self._store.missing(each, self._env.id, self._peer(self._env.id).seen.get(each, 0)):
                self._env.send(self._env.id, self._letter(each, number, entry.path, entry.message))
        self._beat()

    def advance(self, epoch: int) -> None:
        """This node is in ``epoch`` now, durably so once this step is, and needs nothing of those below."""
        if epoch <= self.epoch:
            return
        self.epoch = epoch
        self._children.drop_below(epoch)
        for peer in self._peers.values():
            peer.forget_seen_below(epoch)
        self._drop_left()
        if self._started and not self._is_stalled:
            for node in self._env.others:
                self._tell(node)

    def on_timer(self, key: Key) -> bool:
        """True, and a beat, if the timer is the Outbox's."""
        if key != BEAT:
            return False
        self._beat()
        return True

    def on_stalled(self, why: str | None) -> None:
        """While storage takes no records nothing may leave: send nothing that would only pile up."""
        self._is_stalled = why is not None

    # --- children ---

    def spawn(self, epoch: int, name: Name, core: Callable[..., ChildT], *args: Any, **kwargs: Any) -> ChildT:
        """As ``Env.spawn``. What the child and its children send belongs to ``epoch``."""
        return self._env.spawn(name, _Maker(self, epoch, core), *args, **kwargs)

    def enter(self, env: EpochEnv, take: Callable[[int, Any], None]) -> None:
        """A core of this Env is there."""
        if env.epoch >= self.epoch:
            self._children.enter(env.epoch, self._below(env.path), take)

    def leave(self, epoch: int, path: Path) -> None:
        """The core at this path, and all below it, is retired."""
        if epoch >= self.epoch:
            self._children.leave(epoch, self._below(path))

    # --- sending ---

    def send(self, epoch: int, to: int | tuple[int, ...], message: Any, path: Path | None = None) -> None:
        """Send a message of ``epoch`` to these nodes, as ``Env.send``, and as often as it takes.

        ``path`` is the core that it is for (None: the owner). An epoch that everybody has left needs nothing more.
        """
        if epoch < self._store.floor:
            return
        nodes = (to,) if isinstance(to, int) else to
        below = () if path is None else self._below(path)
        number = self._store.add(epoch, self.epoch, mask_of(nodes), self.tick, below, message)
        if number is None or not self._started:
            return
        own = self._env.id
        now = tuple([node for node in nodes if node == own or self._peer(node).takes(epoch, self.config.ahead_max)])
        if now:
            self._env.send(now, self._letter(epoch, number, below, message))

    # --- receiving ---

    def receive(self, sender: int, letter: Letter) -> Any:
        """Take a Letter. Returns a message for the owner itself; None: it was a child's, or came before."""
        epoch = letter.epoch
        if not self.epoch <= epoch <= self.epoch + self.config.ahead_max:
            return None
        peer = self._peer(sender)
        if letter.life < peer.life:
            return None
        if letter.life > peer.life:
            peer.begin(letter.life)
        seen = peer.seen.get(epoch, 0)
        if seen >> letter.number & 1:
            return None
        if letter.path and not self._children.hand(sender, letter):
            return None
        peer.seen[epoch] = seen | 1 << letter.number
        return None if letter.path else letter.message

    def hear(self, sender: int, beat: EpochBeat) -> None:
        """Take a beat: learn where the peer is and what it has, and send what it lacks."""
        if sender == self._env.id:
            return
        peer = self._peer(sender)
        if beat.life < peer.life:
            return
        has_restarted = 0 < peer.told_life < beat.life
        has_moved = peer.learn(beat)
        if beat.to_life == self.life:
            self._acknowledge(peer, beat)
        if has_moved:
            self._drop_left()
        if self._is_stalled:
            return
        if has_restarted:
            peer.opened_to = max(peer.opened_to, peer.epoch + self.config.ahead_max)
            if peer.resent_at < self.tick:  # else with the next answer, as at any other time
                self._tell(sender)
                self._resend(sender, peer, self.tick + 1)
            return
        self._open(sender, peer)
        if peer.echo > peer.resent_at and self.tick >= peer.resend_from:
            self._resend(sender, peer, peer.echo)

    # --- what the owner may want to know ---

    @property
    def behind(self) -> int:
        """The peers, as a mask, that need what is no longer kept here: they must fetch what was decided."""
        lacks = self._store.lacks
        return mask_of([node for node, peer in self._peers.items() if peer.told_life and lacks(peer.epoch, node)])

    @property
    def abandoned(self) -> int:
        """The peers, as a mask, that say that they no longer keep all that this node needs.

        Where it holds more than can lie, this node must fetch what was decided.
        """
        return mask_of([node for node, peer in self._peers.items() if peer.held_from > self.epoch])

    @property
    def floor(self) -> int:
        """The first epoch of which anything is kept."""
        return self._store.floor

    @property
    def messages(self) -> int:
        """How many are kept."""
        return self._store.messages

    @property
    def size_bytes(self) -> int:
        """The encoded size of what is kept."""
        return self._store.size_bytes

    def parked(self, sender: int) -> tuple[int, int]:
        """How many messages, and bytes, of this sender wait for children that are not there yet."""
        return self._children.parked(sender)

    # --- helpers ---

    def _peer(self, node: int) -> Peer:
        peer = self._peers.get(node)
        if peer is None:
            peer = self._peers[node] = Peer(self.config.ahead_max)
        return peer

    def _below(self, path: Path) -> Path:
        return path[len(self._env.path) :]

    def _letter(self, epoch: int, number: int, path: Path, message: Any) -> Letter:
        return self._make(self.life, epoch, number, path, message)

    def _beat(self) -> None:
        self._env.set_timer(BEAT, self.config.beat_s)
        for gone in [node for node in self._peers if node not in self._env.peers]:
            del self._peers[gone]
        self._drop_left()
        if not self._is_stalled:
            self.tick += 1
            for node in self._env.others:
                self._tell(node)

    def _tell(self, node: int) -> None:
        peer = self._peer(node)
        held_from = peer.epoch + 1 if self._store.lacks(peer.epoch, node) else 0
        seen = peer.seen_from(self.epoch, self.config.ahead_max)
        floor = max(held_from, self._store.floor)
        self._env.send(node, EpochBeat(self.life, self.tick, self.epoch, floor, peer.life, peer.tick, seen))

    def _acknowledge(self, peer: Peer, beat: EpochBeat) -> None:
        peer.echo = max(peer.echo, min(beat.to_tick, self.tick))
        for epoch, numbers in enumerate(beat.seen, beat.epoch):
            sent = self._store.sent(epoch)
            if sent and epoch >= peer.epoch:
                peer.acknowledge(epoch, int.from_bytes(numbers, "little") & ((1 << sent) - 1))

    def _open(self, node: int, peer: Peer) -> None:
        """Send what was held back for the epochs that the peer takes now."""
        last = peer.epoch + self.config.ahead_max
        for epoch in range(max(peer.opened_to + 1, peer.epoch), last + 1):
            peer.opened_at[epoch] = self.tick
            for number, entry in self._store.missing(epoch, node, 0):
                self._env.send(node, self._letter(epoch, number, entry.path, entry.message))
        peer.opened_to = max(peer.opened_to, last)

    def _resend(self, node: int, peer: Peer, before: int) -> None:
        """Send again what left before that beat and was not acknowledged, as much as one resend may have."""
        count = size = 0
        for epoch in range(peer.epoch, peer.epoch + self.config.ahead_max + 1):
            if peer.opened_at.get(epoch, -1) >= before:
                continue
            for number, entry in self._store.missing(epoch, node, peer.acknowledged.get(epoch, 0)):
                if entry.tick >= before:
                    break
                size += entry.size_bytes
                if count and (size > self.config.resend_bytes_max or count >= self.config.resend_messages_max):
                    break
                self._env.send(node, self._letter(epoch, number, entry.path, entry.message))
                count += 1
        if count:
            self.resent += count
            peer.has_resent(self.tick, self.config.backoff_beats_max)

    def _drop_left(self) -> None:
        """Forget the epochs that everybody has left, and those too far below ours."""
        left = min([self._peer(node).epoch for node in self._env.others], default=self.epoch)
        self._store.drop_below(max(min(left, self.epoch), self.epoch - self.config.epochs_max))


class _Maker(Maker, Generic[ChildT]):
    """Makes a core of an epoch. ``by_inputs`` is the core's own."""

    def __init__(self, outbox: Outbox, epoch: int, core: Callable[..., ChildT]) -> None:
        self._outbox = outbox
        self._epoch = epoch
        self._core = core
        self.by_inputs = is_by_inputs(core)

    def __call__(self, env: Env, *args: Any, **kwargs: Any) -> ChildT:
        own = EpochEnv(env, self._outbox, self._epoch)
        core = self._core(own, *args, **kwargs)
        self._outbox.enter(own, own.take)
        return core


class EpochEnv(Env):
    """The Env of a core of an epoch: what it sends, and what its children send, goes through the Outbox."""

    __slots__ = ("_outbox", "epoch")

    def __init__(self, env: Env, outbox: Outbox, epoch: int) -> None:
        for name in Env.__slots__:  # an Env is a handful of references: a copy of them is the same window
            setattr(self, name, getattr(env, name))
        self._outbox = outbox
        self.epoch = epoch

    def send(self, to: int | tuple[int, ...], message: Any) -> None:
        """As ``Env.send``, and as often as it takes."""
        self._outbox.send(self.epoch, to, message, self.path)

    def broadcast(self, message: Any) -> None:
        """As ``Env.broadcast``, and as often as it takes."""
        self._outbox.send(self.epoch, self.peers, message, self.path)

    def send_now(self, to: int | tuple[int, ...], message: Any) -> None:
        """As ``send``: a number that left before it was durable might be given again."""
        self._outbox.send(self.epoch, to, message, self.path)

    def spawn(self, name: Name, core: Callable[..., ChildT], *args: Any, **kwargs: Any) -> ChildT:
        """As ``Env.spawn``; the child is of the same epoch."""
        return super().spawn(name, _Maker(self._outbox, self.epoch, core), *args, **kwargs)

    def retire(self, name: Name) -> None:
        """As ``Env.retire``."""
        super().retire(name)
        self._outbox.leave(self.epoch, (*self.path, name))

    def take(self, sender: int, message: Any) -> None:
        """Have the Host give the core a message after the running handler, as it does with what was parked."""
        self._host.receive(Received(sender, message, self.path))
