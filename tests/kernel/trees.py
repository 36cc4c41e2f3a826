"""Cores that do what messages tell them, in trees of which parts are recovered by inputs, and that log all they see.

An Office, recovered by records, spawns Desks, whose subtrees of Clerks are recovered by inputs, and Shelves, which are
recovered by records and may have Desks too. A Say is a small program: a message, a value handed down or one delivered
runs it. Whatever happens to a core is in its ``log`` in order, so two logs are equal only where all of it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeAlias

import msgspec

from quorate.kernel import Core, Env, Key, Name


class Draw(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Draw from chance, and log it."""


class Look(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Log what the Env shows."""


class Spawn(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Have a child, whose constructor and start run a program, unless it was there before."""

    name: tuple[str, int]
    say: Say | None = None


class Retire(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Retire a child, if it is there."""

    name: tuple[str, int]


class Hand(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Hand a program to a child, if it is there."""

    name: tuple[str, int]
    say: Say


class Deliver(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Have the parent run a program."""

    say: Say


class Later(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Run a program when the core settles."""

    say: Say


class Act(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Have effects that a replay must not repeat."""


class Meet(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Meet a node, where the core is recovered by records."""

    node: int


class Part(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Part from a node, where the core is recovered by records."""

    node: int


Verb: TypeAlias = Draw | Look | Spawn | Retire | Hand | Deliver | Later | Act | Meet | Part


class Say(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A program with a number by which logs tell it from others."""

    number: int
    verbs: tuple[Verb, ...] = ()


class Noise(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A message that only an Office takes."""


class Opened(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A child was spawned."""

    name: tuple[str, int]
    say: Say | None


class Shut(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A child was retired."""

    name: tuple[str, int]


class Joined(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A node was met."""

    node: int


class Left(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A node was parted from."""

    node: int


class Counted(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What a job of a test ends in."""

    total: int


class Teller(Core):
    """Runs programs. ``log``: all that happened."""

    messages = (Say,)
    results = (Counted,)
    kinds: ClassVar[dict[str, type[Teller]]] = {}
    """By the word of their names, the classes of children."""

    def __init__(self, env: Env, say: Say | None = None) -> None:
        super().__init__(env)
        self.log: list[Any] = []
        self.pending: list[Say] = []
        self.ever: dict[Name, bool] = {}
        """The children there ever were, and whether they still are."""
        self.at_start = say
        self._run(("made",), say)

    def start(self) -> None:
        self._run(("start",), self.at_start)

    def on_say(self, sender: int, message: Say) -> None:
        self._run(("say", sender, message.number), message)

    def on_handed(self, value: Any) -> None:
        say = value if isinstance(value, Say) else None
        self._run(("handed", say.number if say else value), say)

    def heard(self, child: Name, say: Say) -> None:
        """The upcall of each child."""
        self._run(("heard", child, say.number), say)

    def submit(self, values: Sequence[bytes]) -> None:
        self.log.append(("submit", values))

    def read(self, tokens: Sequence[int]) -> None:
        self.log.append(("read", tokens))

    def on_timer(self, key: Key) -> None:
        self._run(("timer", key), Say(-1, (Draw(), Look())))

    def on_done(self, key: Key, result: Any) -> None:
        self.log.append(("done", key, result))

    def on_stalled(self, why: str | None) -> None:
        self._run(("stalled", why), self.on_news())

    def on_met(self, node: int, key: bytes, address: str, outbound: bool) -> None:
        self._run(("met", node, key, address, outbound), self.on_news())

    def on_parted(self, node: int, why: str) -> None:
        self._run(("parted", node, why), self.on_news())

    def on_unmet(self, address: str, why: str) -> None:
        self.log.append(("unmet", address, why))

    def on_misbehaved(self, node: int, why: str) -> None:
        self._run(("misbehaved", node, why), self.on_news())

    def on_news(self) -> Say:
        """What it does when all cores hear something: enough for the order to show."""
        return Say(-2, (Look(), *(Hand(name, Say(-3, (Deliver(Say(-4)),))) for name, is_open in self.ever.items())))

    def settle(self) -> None:
        pending, self.pending = self.pending, []
        self.log.append("settle")
        for say in pending:
            self._run(("later", say.number), say)

    # --- programs ---

    def _run(self, what: tuple[Any, ...], say: Say | None) -> None:
        self.log.append(what)
        for verb in () if say is None else say.verbs:
            self._do(verb)

    def _do(self, verb: Verb) -> None:
        env = self.env
        if isinstance(verb, Draw):
            self.log.append(env.rng.getrandbits(32))
        elif isinstance(verb, Look):
            self.log.append((env.now, env.wall_ns, env.peers, env.others))
        elif isinstance(verb, Spawn):
            if verb.name not in self.ever and verb.name[0] in self.kinds:
                self.open(verb.name, verb.say)
        elif isinstance(verb, Retire):
            if self.ever.get(verb.name):
                self.shut(verb.name)
        elif isinstance(verb, Hand):
            if self.ever.get(verb.name):
                env.hand(verb.name, verb.say)
        elif isinstance(verb, Deliver):
            env.deliver(verb.say)
        elif isinstance(verb, Later):
            self.pending.append(verb.say)
        elif isinstance(verb, Act):
            env.send_now(env.peers, Say(0))
            env.broadcast(Say(0))
            env.set_timer("t", 1.0)
            env.work("w", Say(0))
        else:
            self.roster(verb)

    def open(self, name: Name, say: Say | None) -> None:
        """Spawn a child."""
        self.ever[name] = True
        self.env.spawn(name, self.kinds[name[0]], say, upcall=partial(self.heard, name))

    def shut(self, name: Name) -> None:
        """Retire a child."""
        self.ever[name] = False
        self.env.retire(name)

    def roster(self, verb: Meet | Part) -> None:
        """Only where the core is recovered by records."""


class Clerk(Teller):
    """Inside a subtree. May have Clerks."""

    def checkpoint(self) -> Iterable[Any]:
        raise AssertionError("no records are asked of what is recovered by inputs")


class Desk(Teller):
    """The root of a subtree by inputs."""

    by_inputs = True
    handed = (Say,)


class Recorded(Teller):
    """Recovered by records: which children and nodes there are. Its log is lost with it."""

    records = (Opened, Shut, Joined, Left)

    def __init__(self, env: Env, say: Say | None = None) -> None:
        super().__init__(env)
        self.at_start = say
        self.programs: dict[Name, Say | None] = {}
        self.joined: dict[int, bool] = {}

    def start(self) -> None:
        """What it hands down then comes to children that are started after it."""
        super().start()
        for name in [name for name, is_open in self.ever.items() if is_open]:
            self.env.hand(name, Say(-5, (Draw(), Look(), Deliver(Say(-6)))))

    def open(self, name: Name, say: Say | None) -> None:
        self.env.persist(Opened(name, say))
        self._open(name, say)

    def _open(self, name: Name, say: Say | None) -> None:
        self.programs[name] = say
        super().open(name, say)

    def shut(self, name: Name) -> None:
        self.env.persist(Shut(name))
        super().shut(name)

    def roster(self, verb: Meet | Part) -> None:
        if self.env.path or verb.node == self.env.id:
            return  # it takes one owner to say in a checkpoint what holds
        if isinstance(verb, Meet):
            self.env.persist(Joined(verb.node))
        else:
            self.env.persist(Left(verb.node))
        self._join(verb.node, isinstance(verb, Meet))

    def _join(self, node: int, is_met: bool) -> None:
        self.joined[node] = is_met
        if is_met:
            self.env.meet(f"host:{node}", node=node)
        else:
            self.env.part(node, "as told")

    def restore(self, record: Any) -> None:
        if isinstance(record, Opened):
            self._open(record.name, record.say)
        elif isinstance(record, Shut):
            if record.name not in self.ever:
                self.env.retire(record.name)
                self.ever[record.name] = False
            else:
                super().shut(record.name)
        else:
            self._join(record.node, isinstance(record, Joined))

    def checkpoint(self) -> Iterable[Any]:
        for name, is_open in self.ever.items():
            yield Opened(name, self.programs[name]) if is_open else Shut(name)
        for node, is_met in self.joined.items():
            yield Joined(node) if is_met else Left(node)


class Shelf(Recorded):
    """Below an Office."""


class Office(Recorded):
    """The root."""

    messages = (Say, Noise)

    def on_noise(self, sender: int, message: Noise) -> None:
        pass


Clerk.kinds = Desk.kinds = {"clerk": Clerk}
Shelf.kinds = {"desk": Desk}
Office.kinds = {"desk": Desk, "shelf": Shelf}
Clerk.children = Desk.children = (Clerk,)
Shelf.children = (Desk,)
Office.children = (Desk, Shelf)
