"""Small worlds for tests: quiet mixes, a core that says what happens to it, and a Subject that does nothing."""

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import msgspec

from quorate.kernel import ROOT, App, Core, Env, Path, Requester, Rng
from quorate.sim.checkers.base import Checker
from quorate.sim.logs import LogSubject
from quorate.sim.options import Options
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.workload import Driver
from quorate.sim.world import World

from tests.sim.casting import Casting


class Note(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A message or a record with a number in it."""

    number: int


class Witness(Core):
    """Persists each number that it is submitted and then sends it to all. ``seen`` lists what came, with the time."""

    messages = (Note,)
    records = (Note,)

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.restored: list[int] = []
        self.seen: list[tuple[float, int, int]] = []
        self.fired: list[tuple[float, Any]] = []
        self.done: list[Any] = []
        self.stalls: list[str | None] = []

    def restore(self, record: Note) -> None:
        self.restored.append(record.number)

    def checkpoint(self) -> Sequence[Note]:
        return [Note(-1), *[Note(number) for number in self.restored]]

    def submit(self, values: Sequence[bytes]) -> None:
        for value in values:
            self.restored.append(int(value))
            self.env.persist(Note(int(value)))
            self.env.broadcast(Note(int(value)))

    def on_note(self, sender: int, message: Note) -> None:
        self.seen.append((self.env.now, sender, message.number))

    def on_timer(self, key: Any) -> None:
        self.fired.append((self.env.now, key))

    def on_done(self, key: Any, result: Any) -> None:
        self.done.append(result)

    def on_stalled(self, why: str | None) -> None:
        self.stalls.append(why)


class NoApp(App):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.outputs: list[Any] = []
        self.data = b"state"
        self.stalls: list[str | None] = []

    def output(self, value: Any, path: Path = ROOT) -> None:
        self.outputs.append(value)

    def request(self, client: Requester, request: Any) -> None:
        self.port.submit([b"%d" % request])

    def stalled(self, why: str | None) -> None:
        self.stalls.append(why)

    def snapshot(self, path: Path = ROOT) -> Callable[[BinaryIO], None]:
        data = self.data
        return lambda file: (file.write(data), None)[1]

    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        data = file.read()
        return lambda: setattr(self, "data", data)


class NoDriver(Casting):
    """Says something to one node, and is never answered."""

    def words(self) -> list[tuple[int, Any]]:
        return [(self.nodes[0], 0)]

    def understands(self, response: Any) -> bool:
        return False


class NoSubject(LogSubject):
    """NoApp and clients that are not there."""

    def app(self, node: int, rng: Rng) -> App:
        return NoApp()

    def driver(self, client: int, rng: Rng, nodes: tuple[int, ...], patience_s: float) -> Driver:
        return NoDriver(nodes, patience_s)


def witnesses(mix: Mix | None = None, nodes: int = 3, seed: int = 0, checkers: Sequence[Checker] = ()) -> World:
    """A world of Witnesses whose nodes have started; no clients, no nemesis."""
    world = World(Trial(Witness, NoSubject(), Options(nodes=nodes, seed=seed), mix=mix or Mix()), checkers)
    for node in world.nodes:
        node.start()
    return world


def witness(world: World, node: int) -> Witness:
    """A node's core."""
    core = world.nodes[node].host.root
    assert isinstance(core, Witness)
    return core


def seen(world: World, node: int) -> list[int]:
    """The numbers that reached a node, in order."""
    return [number for _, _, number in witness(world, node).seen]
