"""An Owner of an Outbox whose children say what a test tells them and report what they hear."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import msgspec

from quorate.kernel import Core, Env, Fired, Key, Name, Received, Submitted, Turn
from quorate.parts.reliable import BEAT, EpochBeat, Letter, Life, Outbox, ReliableConfig, letter_type

from tests.kernel.machine import OneNode

PEERS = (0, 1, 2)


class Word(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """What a Voice says."""

    text: str


class Notice(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """What an Owner says itself."""

    text: str


class At(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Record: this epoch has begun."""

    epoch: int


class Said(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Record: this was said in this epoch, and would be contradicted by silence."""

    epoch: int
    text: str


class Voice(Core):
    """Says words to all, and delivers those of others. ``later`` is a child of the same epoch."""

    messages = (Word,)

    def say(self, text: str, to: int | tuple[int, ...] | None = None) -> None:
        if to is None:
            self.env.broadcast(Word(text))
        else:
            self.env.send(to, Word(text))

    def later(self, number: int) -> None:
        self.env.spawn(("late", number), Voice, upcall=self.env.deliver)

    def on_word(self, sender: int, message: Word) -> None:
        self.env.deliver((sender, message.text))


LETTER = letter_type(Voice, messages=(Notice,))


class Owner(Core):
    """Does what it is submitted: ``say EPOCH TEXT``, ``tell EPOCH NODE TEXT``, ``advance EPOCH`` and more."""

    messages = (LETTER, EpochBeat)
    records = (Life, At, Said)
    children = (Voice,)
    config = ReliableConfig()

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.outbox = Outbox(env, LETTER, self.config)
        self.epoch = 0
        self.said: list[Said] = []
        self.voices: dict[int, Any] = {}

    def restore(self, record: Any) -> None:
        if isinstance(record, Life):
            self.outbox.restore(record)
        elif isinstance(record, At):
            self.epoch = record.epoch
        else:
            self.said.append(record)

    def checkpoint(self) -> Iterator[Any]:
        yield from self.outbox.checkpoint()
        yield At(self.epoch)
        yield from self.said

    def start(self) -> None:
        self.outbox.start(self.epoch, held_from=min([said.epoch for said in self.said], default=None))
        self._spawn()
        for said in self.said:
            self._voice(said.epoch).say(said.text)

    def submit(self, values: Sequence[bytes]) -> None:
        for value in values:
            verb, *words = value.decode().split()
            getattr(self, f"_{verb}")(*words)

    def on_letter(self, sender: int, letter: Letter) -> None:
        message = self.outbox.receive(sender, letter)
        if message is not None:
            self.env.deliver((letter.epoch, sender, message))

    def on_epoch_beat(self, sender: int, beat: EpochBeat) -> None:
        self.outbox.hear(sender, beat)

    def on_timer(self, key: Key) -> None:
        assert self.outbox.on_timer(key)

    def on_stalled(self, why: str | None) -> None:
        self.outbox.on_stalled(why)

    def revive(self, name: Name) -> None:
        raise AssertionError("Voices persist nothing")

    # --- verbs ---

    def _say(self, epoch: str, text: str) -> None:
        self.said.append(Said(int(epoch), text))
        self.env.persist(self.said[-1])
        self._voice(int(epoch)).say(text)

    def _tell(self, epoch: str, node: str, text: str) -> None:
        self._voice(int(epoch)).say(text, int(node))

    def _announce(self, epoch: str, text: str) -> None:
        self.outbox.send(int(epoch), self.env.peers, Notice(text))

    def _advance(self, epoch: str) -> None:
        self.epoch = int(epoch)
        self.env.persist(At(self.epoch))
        self.outbox.advance(self.epoch)
        self._spawn()

    def _later(self, epoch: str) -> None:
        self._voice(int(epoch)).later(int(epoch))

    def _hush(self, epoch: str) -> None:
        self._voice(int(epoch)).env.retire(("late", int(epoch)))

    # --- helpers ---

    def _spawn(self) -> None:
        for epoch in range(self.epoch, self.epoch + self.config.ahead_max + 1):
            self._voice(epoch)

    def _voice(self, epoch: int) -> Any:
        if epoch not in self.voices:
            upcall = partial(self._heard, epoch)
            self.voices[epoch] = self.outbox.spawn(epoch, ("voice", epoch), Voice, upcall=upcall)
        return self.voices[epoch]

    def _heard(self, epoch: int, heard: tuple[int, str]) -> None:
        self.env.deliver((epoch, *heard))


class Bench:
    """One node of three: each method is a step and gives its Turn."""

    def __init__(self, node: int = 0, **limits: Any) -> None:
        self.config = ReliableConfig(**limits)
        self.shell = OneNode(type("Owned", (Owner,), {"config": self.config}), node, PEERS)

    @property
    def outbox(self) -> Outbox:
        root = self.shell.host.root
        assert isinstance(root, Owner)
        return root.outbox

    def do(self, *commands: str) -> Turn:
        return self.shell.step(Submitted(tuple(command.encode() for command in commands)))

    def on(self, sender: int, *messages: Any) -> Turn:
        return self.shell.step(*[Received(sender, message) for message in messages])

    def beat(self) -> Turn:
        return self.shell.step(Fired(BEAT))

    def hears(self, sender: int, epoch: int = 0, **fields: Any) -> Turn:
        """A beat that knows this life of ours and has heard our newest beat, if nothing else is said."""
        known = {"life": 1, "tick": 1, "held_from": 0, "to_life": self.outbox.life, "to_tick": self.outbox.tick}
        return self.on(sender, EpochBeat(epoch=epoch, **{**known, **fields}))


def letter(number: int, text: str, epoch: int = 0, life: int = 1, path: Any = None) -> Letter:
    """A Word for the Voice of an epoch."""
    return LETTER(life, epoch, number, (("voice", epoch),) if path is None else path, Word(text))


def letters(turn: Turn) -> list[tuple[tuple[int, ...], int, int, str]]:
    """To whom, epoch, number and text of the Letters of a Turn, in order."""
    sent = [(send.to, send.message) for send in turn.sends if isinstance(send.message, Letter)]
    return [(to, each.epoch, each.number, each.message.text) for to, each in sent]


def beats(turn: Turn) -> dict[int, EpochBeat]:
    """The beats of a Turn by receiver."""
    return {send.to[0]: send.message for send in turn.sends if isinstance(send.message, EpochBeat)}
