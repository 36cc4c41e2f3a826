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
from io import BytesIO
from random import Random
from typing import TYPE_CHECKING, Any

from quorate.kernel import (
    App,
    Asked,
    Barrier,
    Client,
    Done,
    Failed,
    Fired,
    Host,
    Job,
    Path,
    Received,
    Stalled,
    Submitted,
    Timer,
    Turn,
)
from quorate.kernel.ids import Key
from quorate.parts.replicated import Committed, ReadChunk, Restored, TakeSnapshot, WriteChunk
from quorate.sim.checkers.base import Violation
from quorate.sim.clock import Clock
from quorate.sim.disk import Disk
from quorate.sim.snapshots import Snapshots

if TYPE_CHECKING:
    from quorate.sim.world import World

STEPS_AT_ONCE_MAX = 10_000
JOB_S = 0.002


class SimPort:
    """The Port of one life of a node."""

    __slots__ = ("_life", "_node")

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self._life = node.life

    def submit(self, values: Sequence[bytes]) -> None:
        """A Submitted in line."""
        if values and self._node.life == self._life:
            self._node.inbox.append(Submitted(tuple(values)))

    def ask(self, tokens: Sequence[int]) -> None:
        """An Asked in line."""
        if tokens and self._node.life == self._life:
            self._node.inbox.append(Asked(tuple(tokens)))

    def reply(self, client: Client, response: Any) -> None:
        """Over the clients' network."""
        if self._node.life == self._life:
            self._node.world.clients.reply(self._node.id, client, response)


class SimNode:
    """One machine. ``id`` is its number."""

    host: Host
    app: App
    barrier: Barrier

    def __init__(self, world: World, node: int, seed: str) -> None:
        self.world = world
        self.id = node
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
        self.applied = 0
        self.stepping = False
        self.ambush: Callable[[], None] | None = None
        """What the nemesis does to this node soon after its next write."""
        self._timers: dict[tuple[Path, Key], tuple[float, int]] = {}
        self._timer_count = 0
        self._held: deque[Any] = deque()
        self._busy_until = 0.0
        self._synced_while_paused = 0
        self._frames_until_checkpoint = 0

    # --- life and death ---

    def start(self) -> None:
        """Begin a life: restore what is durable, then start."""
        world = self.world
        self.life += 1
        self.up = True
        self.paused = False
        self.stepping = False
        self._busy_until = 0.0
        self._synced_while_paused = 0
        self._frames_until_checkpoint = self._checkpoint_after()
        life = "" if world.options.by_inputs else f"/{self.life}"  # replayed inputs need the same chance
        rng = Random(f"{self._seed}/core/{self.id}{life}")
        now = self.clock.at(world.now)
        self.host = Host(world.make, self.id, world.peers, rng, by_inputs=world.options.by_inputs)
        self.barrier = Barrier()
        self.app = world.make_app(self.id, Random(f"{self._seed}/app/{self.id}/{self.life}"))
        self.app.port = SimPort(self)
        self.applied = 0
        for frame in self.disk.journal:
            for record in frame:
                self.host.restore(record, now)
        if world.tracing:
            world.trace(self.id, "start", f"life {self.life}", f"{len(self.disk.journal)} frames")
        turn = self.host.start(now)
        for checker in world.checkers:
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
        self.requests.clear()
        self._timers.clear()
        self._held.clear()
        self.disk.crash()
        if self.rng.random() < 0.5:
            self.snapshots.forget_arriving()
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
        if self._synced_while_paused:
            sequence, self._synced_while_paused = self._synced_while_paused, 0
            self._synced(sequence)
        self._wake()

    # --- what comes from outside ---

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
        if self.stepping or self.paused or not self.up or not (self.inbox or self.requests):
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
            if not self.inbox:
                break
            inputs, self.inbox = self.inbox, []
            self._step(inputs)
            if step_s:
                self._busy_until = self.world.now + step_s
                break
        else:
            raise Violation("progress", f"node {self.id} steps without end in no time: it sends to itself for ever")
        self.stepping = False
        if self.inbox or self.requests:
            self._wake()

    def _serve(self) -> None:
        """Requests of clients. What they cause may come before messages that waited as long: sockets have no order."""
        requests, self.requests = self.requests, []
        waited: list[Any] = []
        if self.inbox and self.rng.random() < 0.5:
            waited, self.inbox = self.inbox, []
        app = self.app
        for client, request in requests:
            app.request(client, request)
        app.settle()
        self.inbox.extend(waited)

    def _step(self, inputs: list[Any]) -> None:
        world = self.world
        turn = self.host.step(inputs, self.clock.at(world.now))
        root = self.host.root
        for check in world.on_step:
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
            sequence = self.disk.append(turn.records)
            if world.tracing:
                world.trace(self.id, "write", f"#{sequence}", [record.value for record in turn.records])
        if turn.timers:
            self._set_timers(turn.timers)
        if turn.blames:
            world.blamed(self.id, turn.blames)
        if not world.options.barrier or self.barrier.add(turn, sequence):
            self._release(turn, world.mark(self.id))
        elif turn.sends or turn.outputs or turn.jobs:
            self._held.append(world.mark(self.id))
        if sequence is not None:
            self._wrote()

    def _wrote(self) -> None:
        """A frame is on its way to the disk."""
        self._frames_until_checkpoint -= 1
        if self._frames_until_checkpoint <= 0:
            self._checkpoint()
        if self.ambush is not None:
            strike, self.ambush = self.ambush, None
            self.world.after(self.rng.random() * self.disk.sync_s, strike)

    def _set_timers(self, timers: Sequence[Timer]) -> None:
        for timer in timers:
            name = (timer.path, timer.key)
            if timer.at is None:
                self._timers.pop(name, None)
            else:
                self._set(name, timer.at)

    def _synced(self, sequence: int) -> None:
        """The disk is durable up to a frame."""
        if self.paused:
            self._synced_while_paused = sequence
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
        if turn.outputs:
            for value in turn.outputs:
                self._output(value)
            self.app.settle()
        for job in turn.jobs:
            self._work(job)

    def _output(self, value: Any) -> None:
        world = self.world
        if world.tracing:
            world.trace(self.id, "output", "", value)
        for checker in world.checkers:
            checker.output(self.id, value)
        if type(value) is Committed:
            self.applied = value.first_index + len(value.entries) - 1
        elif type(value) is Restored:
            data = self.snapshots.data(value.index)
            if data is None:
                raise Violation(
                    "snapshots", f"node {self.id} restores a snapshot at {value.index} that it does not have"
                )
            self.app.restore(BytesIO(data))()
            self.applied = value.index
        self.app.output(value)

    # --- the journal's length ---

    def _checkpoint_after(self) -> int:
        return int(self.world.mix.frames_per_checkpoint * (0.5 + self.rng.random()))

    def _checkpoint(self) -> None:
        self._frames_until_checkpoint = self._checkpoint_after()
        records = self.host.checkpoint()
        if records:
            self.disk.replace(records)

    # --- jobs ---

    def _work(self, job: Job) -> None:
        """Do a job some time later; its result is an input, unless the process died meanwhile."""
        do = self._begin_job(job.work)
        life = self.life

        def end() -> None:
            if self.up and self.life == life:
                self.inbox.append(Done(job.key, do(), job.path))
                self._wake()

        self.world.after(JOB_S * (0.1 + self.rng.expovariate(1.0)), end)

    def _begin_job(self, work: Any) -> Callable[[], Any]:
        match work:
            case TakeSnapshot(index, term):
                if self.applied != index:
                    raise Violation(
                        "snapshots", f"node {self.id} takes a snapshot at {index}, but its App is at {self.applied}"
                    )
                write = self.app.snapshot()

                def take() -> Any:
                    file = BytesIO()
                    write(file)
                    return self.snapshots.file(index, term, file.getvalue())

                return take
            case ReadChunk():
                return lambda: self.snapshots.read(work)
            case WriteChunk():
                return lambda: self.snapshots.write(work)
            case _:
                return lambda: Failed(f"the simulator has no job {type(work).__name__}")
