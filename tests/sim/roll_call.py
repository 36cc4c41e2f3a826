"""RollCall: epochs of all-to-all votes, each of which ends with the votes of all nodes, or of as many as it needs.

The purest form of a protocol that assumes reliable links: one vote that is lost stops it for ever. With an Outbox it is
the paper's protocol over links that lose; without, the same child class sends through the plain Env.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import msgspec

from quorate.kernel import Core, Env, Key, Name
from quorate.parts.reliable import EpochBeat, Letter, Life, Outbox, ReliableConfig, letter_type
from quorate.sim.options import Options
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.world import World

from tests.sim.worlds import NoSubject


class Vote(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Present."""

    value: int


class Ended(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Record: the epoch ended with this sum of votes."""

    epoch: int
    total: int


class Where(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """From a node that was left behind: which epoch is it?"""


class Here(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """This one."""

    epoch: int


class Round(Core):
    """One epoch. Not a word in it of links that lose."""

    messages = (Vote,)

    def __init__(self, env: Env, epoch: int, needs: int) -> None:
        super().__init__(env)
        self.epoch = epoch
        self.needs = needs
        self.votes: dict[int, int] = {}
        self.has_voted = False

    def start(self) -> None:
        if not self.has_voted:  # with recovery by inputs it has
            self.has_voted = True
            self.env.broadcast(Vote(self.epoch * 100 + self.env.id))

    def on_vote(self, sender: int, message: Vote) -> None:
        if len(self.votes) < self.needs and sender not in self.votes:
            self.votes[sender] = message.value
            if len(self.votes) == self.needs:
                self.env.deliver(sum(self.votes.values()))


LETTER = letter_type(Round)


class RollCall(Core):
    """Epochs up to ``last``. ``needs``: votes that end one; None: those of all nodes."""

    messages: ClassVar[tuple[type, ...]] = (LETTER, EpochBeat, Where, Here)
    records = (Life, Ended)
    children: ClassVar[tuple[type[Core], ...]] = (Round,)
    config = ReliableConfig(beat_s=0.1, epochs_max=50)
    is_reliable = True
    last = 30
    needs: int | None = None

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.outbox = Outbox(env, LETTER, self.config)
        self.epoch = 0
        self.totals: dict[int, int] = {}
        self.rounds: dict[int, Core] = {}
        self.jumps = 0
        self.has_begun = False

    def restore(self, record: Any) -> None:
        if isinstance(record, Life):
            self.outbox.restore(record)
        else:
            self.totals[record.epoch] = record.total
            while self.epoch in self.totals:
                self.epoch += 1
            self._close()

    def revive(self, name: Name) -> None:
        self._spawn(name[1])

    def checkpoint(self) -> Iterator[Any]:
        yield from self.outbox.checkpoint()
        for epoch, total in self.totals.items():
            yield Ended(epoch, total)

    def start(self) -> None:
        if self.is_reliable:
            self.outbox.start(self.epoch, held_from=self.first)
        if not self.has_begun:  # else all is as it was
            self.has_begun = True
            self._open()

    @property
    def first(self) -> int:
        """Votes for the next epoch are given at once, so another may be as far behind as this and still need ours."""
        return max(0, self.epoch - 1 - self.config.ahead_max)

    def submit(self, values: Sequence[bytes]) -> None:
        pass

    def on_letter(self, sender: int, letter: Letter) -> None:
        self.outbox.receive(sender, letter)

    def on_epoch_beat(self, sender: int, beat: EpochBeat) -> None:
        self.outbox.hear(sender, beat)
        if self.outbox.abandoned.bit_count() >= 2:
            self.env.send(sender, Where())

    def on_where(self, sender: int, message: Where) -> None:
        self.env.send(sender, Here(self.epoch))

    def on_here(self, sender: int, message: Here) -> None:
        if message.epoch > self.epoch + self.config.ahead_max:
            self.jumps += 1
            self._move(message.epoch)

    def on_timer(self, key: Key) -> None:
        self.outbox.on_timer(key)

    def on_stalled(self, why: str | None) -> None:
        self.outbox.on_stalled(why)

    def _spawn(self, epoch: int) -> None:
        """A method and a partial, so that a fork of the Host takes them along."""
        name, args = ("round", epoch), (epoch, self.needs or len(self.env.peers))
        upcall = partial(self._ended, epoch)
        if self.is_reliable:
            self.rounds[epoch] = self.outbox.spawn(epoch, name, self.children[0], *args, upcall=upcall)
        else:
            self.rounds[epoch] = self.env.spawn(name, self.children[0], *args, upcall=upcall)

    def _open(self) -> None:
        for epoch in range(self.first, min(self.epoch + self.config.ahead_max, self.last - 1) + 1):
            if epoch not in self.rounds:
                self._spawn(epoch)

    def _close(self) -> None:
        for old in [epoch for epoch in self.rounds if epoch < self.first]:
            del self.rounds[old]
            self.env.retire(("round", old))

    def _ended(self, epoch: int, total: int) -> None:
        if epoch in self.totals:
            return
        self.totals[epoch] = total
        self.env.persist(Ended(epoch, total))
        while epoch in self.totals:
            epoch += 1
        if self.epoch in self.totals:
            self._move(epoch)

    def _move(self, epoch: int) -> None:
        self.epoch = epoch
        if self.is_reliable:
            self.outbox.advance(epoch)
        self._close()
        self._open()


class JournaledRound(Round):
    """Persists nothing: its inputs are stepped through again."""

    by_inputs = True


class Journaled(RollCall):
    """The root is recovered by records, its rounds by their inputs."""

    children = (JournaledRound,)


class Bare(RollCall):
    """Without the Outbox."""

    is_reliable = False


def world(make: Callable[[Env], Core], options: Options, mix: Mix | None = None) -> World:
    """A world that has begun, with its nemesis and without clients. A blame of an honest node raises Violation."""
    made = World(Trial(make, NoSubject(), options, mix=mix))
    for node in made.nodes:
        node.start()
    made.nemesis.start()
    return made


def finish(made: World, limit_s: float) -> bool:
    """Let time pass until every node is through. False if the limit comes first."""
    end = made.now + limit_s
    while made.now < end:
        made.run_until(made.now + 0.2)
        if all(node.up and core(made, node.id).epoch == RollCall.last for node in made.nodes):
            return True
    return False


def core(made: World, node: int) -> RollCall:
    """A node's core."""
    root = made.nodes[node].host.root
    assert isinstance(root, RollCall)
    return root


def epochs(made: World) -> list[int]:
    """How far each node is."""
    return [core(made, node.id).epoch for node in made.nodes]
