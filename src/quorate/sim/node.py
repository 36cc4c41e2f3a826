"""SimNode: a Host, an App, a Barrier and a disk; what the real Node does, in virtual time.

How it works. What happens outside becomes an input or a client's request and waits in line. A step takes all that waits
(mostly one message; more where the node was busy or paused), and its Turn is acted on in the order that the durability
rule asks for: early sends leave, records go to the disk, timers are set; when the Barrier lets the Turn go, its sends
leave, its outputs go to the App and its jobs begin.

A crash ends the process: Host, App, Barrier, timers and jobs under way are gone. Disk, snapshots and clock are the
machine's and stay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappush
from random import Random
from typing import TYPE_CHECKING, Any

from quorate.kernel import (
    App,
    Asked,
    Barrier,
    Client,
    Fired,
    Host,
    Path,
    Received,
    Record,
    Stalled,
    Submitted,
    Timer,
    Turn,
)
from quorate.kernel.ids import Key
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.clock import Clock
from quorate.sim.disk import Disk
from quorate.sim.snapshots import Snapshots
from quorate.sim.upward import Upward

if TYPE_CHECKING:
    from quorate.sim.world import World

STEPS_AT_ONCE_MAX = 10_000


class SimPort:
    """The Port of one life of a node."""

    __slots__ = ("_life", "_node")

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self._life = node.life

    def submit(self, values: Sequence[bytes]) -> None:
        """In line for a step."""
        if values and self._node.life == self._life:
            self._node.submit(values)

    def ask(self, tokens: Sequence[int]) -> None:
        """In line for a step."""
        if tokens and self._node.life == self._life:
            self._node.ask(tokens)

    def reply(self, client: Client, response: Any) -> None:
        """Over the clients' network."""
        if self._node.life == self._life:
            self._node.reply(client, response)


class SimNode:
    """One machine. ``id`` is its number."""

    host: Host
    app: App
    barrier: Barrier
    upward: Upward

    def __init__(self, world: World, node: int, seed: str) -> None:
        self.world = world
        self.id = node
        self.place = node
        """What tells its App's folder from others: two nodes may claim one number."""
        self.rng = Random(f"{seed}/node/{node}")
        self._seed = seed
        self.clock = Clock(self.rng.uniform(0.0, 1000.0))
        self.disk = Disk(Random(f"{seed}/disk/{node}"), world.mix.sync_s, world.after)
        self.disk.synced = self._synced
        self.snapshots = Snapshots()
        self.life = 0
        self.up = False
        self.paused = False
        self.inbox: list[Any] = []
        self.requests: list[tuple[Client, Any]] = []
        self.stepping = False
        self.ambush: Callable[[], None] | None = None
        """What the nemesis does to this node soon after its next write."""
        self._timers: dict[tuple[Path, Key], tuple[float, int]] = {}
        self._timer_count = 0
        self._held: deque[Any] = deque()
        self._busy_until = 0.0
        self._frames_until_checkpoint = 0
        self._deferred: list[Callable[[], None]] = []
        self._submitted: list[bytes] = []
        self._asked: list[int] = []
        self._written = self._durable = 0
        """Sequence numbers: of the newest frame queued, and of the newest that is durable."""
        self._checkers: Sequence[Checker] = world.checkers
        self._on_step = world.on_step
        self._mark = world.mark

    # --- life and death ---

    def start(self) -> None:
        """Begin a life: restore what is durable, then start."""
        world = self.world
        self.life += 1
        self.up = True
        self.paused = False
        self.stepping = False
        self._busy_until = 0.0
        self._written = self._durable = 0
        self._frames_until_checkpoint = self._checkpoint_after()
        life = "" if world.options.by_inputs else f"/{self.life}"  # replayed inputs need the same chance
        rng = Random(f"{self._seed}/core/{self.id}{life}")
        now = self.clock.at(world.now)
        self.host = Host(world.make, self.id, world.peers, rng, by_inputs=world.options.by_inputs)
        self.barrier = Barrier()
        self.app = world.make_app(self.place, Random(f"{self._seed}/app/{self.id}/{self.life}"))
        self.app.port = SimPort(self)
        self.upward = Upward(self, self.app)
        for frame in self.disk.journal:
            for record in frame:
                self.host.restore(record, now)
        if world.tracing:
            world.trace(self.id, "start", f"life {self.life}", f"{len(self.disk.journal)} frames")
        turn = self.host.start(now)
        for checker in self._checkers:
            checker.started(self.id, self.host.root)
        self._act(turn)
        if self.disk.stalled is not None:
            self._stalled(self.disk.stalled)
        self._wake()

    def crash(self) -> None:
        """The process is gone."""
        self.up = False
        self.paused = False
        self.ambush = None
        self.inbox.clear()
        self._submitted.clear()
        self._asked.clear()
        self._deferred.clear()
        self.requests.clear()
        self._timers.clear()
        self._held.clear()
        self.disk.crash()
        if self.rng.random() < 0.5:
            self.snapshots.forget_arriving()
        self.world.crashed(self.place, self.life)
        if self.world.tracing:
            self.world.trace(self.id, "crash", f"{len(self.disk.journal)} frames", "are durable")

    def restart(self) -> None:
        """Start, if nobody did yet."""
        if not self.up:
            self.start()

    def pause(self) -> None:
        """SIGSTOP: no steps; what comes waits."""
        self.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        self.paused = False
        deferred, self._deferred = self._deferred, []
        for act in deferred:
            act()
        self._synced(self._durable)

    @property
    def applied(self) -> int:
        """The last index that the App was given."""
        return self.upward.applied

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        """Have the process do something later: not while it is paused, and not if it dies first."""
        life = self.life

        def due() -> None:
            if not self.up or self.life != life:
                return
            if self.paused:
                self._deferred.append(act)
            else:
                act()
                self._wake()

        self.world.after(delay_s, due)

    # --- what comes from outside ---

    def submit(self, values: Sequence[bytes]) -> None:
        """Values of the App for the core. While the journal is busy they wait, so that many share a turn."""
        self._submitted.extend(values)

    def operate(self, value: bytes) -> None:
        """A value of an operator, past the App."""
        self.submit((value,))
        self._wake()

    def ask(self, tokens: Sequence[int]) -> None:
        """Reads of the App for the core."""
        self._asked.extend(tokens)

    def receive(self, item: Received, _: Any) -> None:
        """A message arrives."""
        network = self.world.network
        if not self.up or network.is_cut(item.sender, self.id):
            return
        network.delivered += 1
        if self.world.tracing:
            self.world.trace(self.id, "receive", item.sender, item.message)
        self.inbox.append(item)
        if not (self.paused or self.stepping):
            self._wake()

    def loop_back(self, item: Received) -> None:
        """A message to oneself: the input of a later step."""
        self.inbox.append(item)

    def request(self, client: Client, request: Any) -> None:
        """A client's request arrives; it is lost on a node that is down."""
        if not self.up:
            return
        self.requests.append((client, request))
        self._wake()

    def reply(self, client: Client, response: Any) -> None:
        """An answer of the App, over the clients' network."""
        self.world.clients.reply(self.id, client, response)

    def stall(self, why: str | None) -> None:
        """The disk is full (or no longer, None)."""
        self.disk.stall(why)
        if self.up:
            self._stalled(why)
            self._wake()

    def _stalled(self, why: str | None) -> None:
        self.inbox.append(Stalled(why))
        self.app.stalled(why)

    # --- clock and timers ---

    def set_clock(self, rate: float, jump: float) -> None:
        """The clock runs at another rate after a jump. Timers stay where they are in local time."""
        now = self.world.now
        self.clock.change(now, rate, jump)
        for name, (at, _) in list(self._timers.items()):
            self._set(name, at)

    def _set(self, name: tuple[Path, Key], at: float) -> None:
        world = self.world
        self._timer_count += 1
        self._timers[name] = (at, self._timer_count)
        world.sequence += 1
        heappush(world.heap, (self.clock.until(at, world.now), world.sequence, self._fire, name, self._timer_count))

    def _fire(self, name: tuple[Path, Key], count: int) -> None:
        timer = self._timers.get(name)
        if timer is None or timer[1] != count:
            return
        del self._timers[name]
        self.clock.reach(timer[0], self.world.now)
        if self.world.tracing:
            self.world.trace(self.id, "timer", name[1], "")
        self.inbox.append(Fired(name[1], name[0]))
        if not (self.paused or self.stepping):
            self._wake()

    # --- steps ---

    def _wake(self) -> None:
        """Take the steps that are due, or have them taken when the node is free again."""
        if self.stepping or self.paused or not self.up or not self._has_work():
            return
        self.stepping = True
        if self.world.now < self._busy_until:
            self.world.at(self._busy_until, self._run, self.life, None)
        else:
            self._run(self.life, None)

    def _run(self, life: int, _: Any) -> None:
        if life != self.life or not self.up:
            return
        step_s = self.world.mix.step_s
        for _step in range(STEPS_AT_ONCE_MAX):
            if self.paused:
                break
            if self.requests:
                self._serve()
            inputs = self._take_inputs()
            if not inputs:
                break
            self._step(inputs)
            if step_s:
                self._busy_until = self.world.now + step_s
                break
        else:
            raise Violation("progress", f"node {self.id} steps without end in no time: it sends to itself for ever")
        self.stepping = False
        self._wake()

    def _serve(self) -> None:
        requests, self.requests = self.requests, []
        for client, request in requests:
            self.app.request(client, request)
        self.app.settle()

    def _has_work(self) -> bool:
        return bool(self.inbox or self.requests or self._asked or (self._submitted and self._durable >= self._written))

    def _take_inputs(self) -> list[Any]:
        """What is in line. What clients ask comes before or after what peers say: sockets have no order."""
        inputs, self.inbox = self.inbox, []
        asked: list[Any] = []
        if self._submitted and self._durable >= self._written:
            asked.append(Submitted(tuple(self._submitted)))
            self._submitted.clear()
        if self._asked:
            asked.append(Asked(tuple(self._asked)))
            self._asked.clear()
        if asked and inputs and self.rng.random() < 0.5:
            return asked + inputs
        return inputs + asked

    def _step(self, inputs: list[Any]) -> None:
        world = self.world
        turn = self.host.step(inputs, self.clock.at(world.now))
        root = self.host.root
        for check in self._on_step:
            check(self.id, root)
        world.count_step(self.id, len(inputs), turn)
        self._act(turn)

    def _act(self, turn: Turn) -> None:
        """The durability rule; see the Barrier."""
        world = self.world
        if turn.early:
            for send in turn.early:
                world.network.send(self.id, send)
        sequence = None
        if turn.records:
            sequence = self._write(turn.records)
        if turn.timers:
            self._set_timers(turn.timers)
        if turn.blames:
            world.blamed(self.id, turn.blames)
        if not world.options.barrier or self.barrier.add(turn, sequence):
            self._release(turn, self._mark(self.id))
        elif turn.sends or turn.outputs or turn.jobs:
            self._held.append(self._mark(self.id))

    def _write(self, records: Sequence[Record]) -> int:
        """A frame for the Turn; now and then a checkpoint that holds the Turn's state in place of all before."""
        self._frames_until_checkpoint -= 1
        sequence = 0
        if self._frames_until_checkpoint <= 0:
            self._frames_until_checkpoint = self._checkpoint_after()
            if state := self.host.checkpoint():
                sequence = self.disk.replace(state)
        if not sequence:
            sequence = self.disk.append(records)
        self._written = sequence
        if self.world.tracing:
            self.world.trace(self.id, "write", f"#{sequence}", [record.value for record in records])
        if self.ambush is not None:
            strike, self.ambush = self.ambush, None
            self.world.after(self.rng.random() * self.disk.sync_s, strike)
        return sequence

    def _checkpoint_after(self) -> int:
        return int(self.world.mix.frames_per_checkpoint * (0.5 + self.rng.random()))

    def _set_timers(self, timers: Sequence[Timer]) -> None:
        for timer in timers:
            name = (timer.path, timer.key)
            if timer.at is None:
                self._timers.pop(name, None)
            else:
                self._set(name, timer.at)

    def _synced(self, sequence: int) -> None:
        """The disk is durable up to a frame."""
        self._durable = sequence
        if self.paused:
            return
        if self.world.tracing:
            self.world.trace(self.id, "durable", f"#{sequence}", "")
        for turn in self.barrier.durable(sequence):
            if self.world.options.barrier:
                self._release(turn, self._held.popleft())
        self._wake()

    def _release(self, turn: Turn, mark: Any) -> None:
        """Let go of what waited for durability."""
        world = self.world
        if turn.sends:
            if mark is not None:
                world.promises.released(self.id, mark)
            for send in turn.sends:
                world.network.send(self.id, send)
        if turn.outputs or turn.jobs:
            self.upward.take(turn)

    def saw_output(self, value: Any) -> None:
        """Show an output to the checkers."""
        world = self.world
        if world.tracing:
            world.trace(self.id, "output", "", value)
        for checker in self._checkers:
            checker.output(self.id, value)
