"""Simulated clients: each has one operation under way, waits, times out, tries again elsewhere, and sometimes gives up.

What they asked and were told is the history that is checked in the end. A client that gave up goes on as a new process,
as in Jepsen: its last operation stays open for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from quorate.kernel import Rng
from quorate.sim.history.events import Event, EventType
from quorate.sim.workload import Answer, Driver, Generator, Op, Request, Workload

if TYPE_CHECKING:
    from quorate.sim.world import World

REDIRECT_S = 0.002
REDIRECT_S_MAX = 0.2
OPERATIONS_MAX = 4000
"""Of one run: more would make checking the history slower than the run."""


class SimClient:
    """One client. ``attempt`` tells its time-outs apart."""

    def __init__(self, clients: Clients, number: int, driver: Callable[[int, Rng], Driver]) -> None:
        self._clients = clients
        self._world = clients.world
        self._number = number
        self._rng = Random(f"{clients.world.seed}/client/{number}")
        self._driver = driver(number, Random(f"{clients.world.seed}/driver/{number}"))
        self._process = clients.new_process()
        self._node = number % clients.world.options.nodes
        self._attempt = 0
        self._redirects = 0
        self._last: list[Op] | None = None
        self.op: Op | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way nor will be."""
        return self.op is None and self._last == []

    def wait(self) -> None:
        """Think, then begin the next operation."""
        self._world.after(self._rng.expovariate(1.0 / self._world.mix.think_s), self._begin)

    def finish(self) -> None:
        """After what is under way, read each key once more and stop."""
        idle = self._last is None and self.op is None and self._clients.is_full
        self._last = [Op("read", key) for key in self._clients.generator.keys]
        if idle:
            self.wait()

    def receive(self, response: Any, node: int) -> None:
        """A reply of a node arrives."""
        if self.op is None:
            return
        found = self._driver.receive(response, node)
        if isinstance(found, Answer):
            self._answered(found)
        elif isinstance(found, Request):
            if found.node is not None:
                self._node = found.node
            delay = min(REDIRECT_S * 2**self._redirects, REDIRECT_S_MAX)
            self._redirects += 1
            attempt = self._attempt
            self._world.after(delay, lambda: self._send(found) if self._attempt == attempt else None)

    def _begin(self) -> None:
        if self._last is None:
            if self._clients.is_full:
                return
            if self._world.now < self._clients.quiet_until:
                self.wait()
                return
            self.op = self._clients.generator.next()
        elif self._last:
            self.op = self._last.pop()
        else:
            return
        request = self._driver.begin(self.op)
        value = list(self.op.value) if self.op.f == "cas" else self.op.value
        self._clients.record("invoke", self._process, self.op, value)
        self._try(request)

    def _try(self, request: Request) -> None:
        if request.node is not None:
            self._node = request.node
        self._redirects = 0
        self._attempt += 1
        attempt = self._attempt
        self._world.after(self._world.mix.timeout_s * self._rng.uniform(0.5, 1.5), lambda: self._timed_out(attempt))
        self._send(request)

    def _send(self, request: Request) -> None:
        if request.everywhere:
            for node in self._world.peers:
                self._clients.send(self._number, node, request.payload)
            return
        astray = self._rng.random() < self._world.mix.astray
        node = self._clients.any_node(self._rng) if astray else self._node
        self._clients.send(self._number, node, request.payload)

    def _timed_out(self, attempt: int) -> None:
        if self.op is None or attempt != self._attempt:
            return
        if self._last is None and self._rng.random() < self._world.mix.give_up:
            self._driver.give_up()
            self._end(Answer("info"))
            return
        self._node = self._clients.any_node(self._rng)
        self._try(self._driver.retry())

    def _answered(self, answer: Answer) -> None:
        op = self.op
        assert op is not None
        self._clients.generator.saw(op, answer)
        if answer.type == "ok" and op.f != "read" and answer.value is not False:
            identity = self._driver.identity()
            if identity is not None:
                self._clients.acknowledged[identity] = op
        self._end(answer)

    def _end(self, answer: Answer) -> None:
        assert self.op is not None
        self._clients.record(answer.type, self._process, self.op, answer.value)
        if answer.type == "info":
            self._process = self._clients.new_process()
        self.op = None
        self._attempt += 1
        self.wait()


class SimCaller:
    """A client as one node sees it: what its App answers."""

    __slots__ = ("_client", "_clients", "_node")

    def __init__(self, clients: Clients, client: int, node: int) -> None:
        self._clients = clients
        self._client = client
        self._node = node

    @property
    def principal(self) -> str:
        """Nobody asked for a proof of it."""
        return f"client {self._client}"

    def reply(self, response: Any) -> None:
        """Over the clients' network."""
        self._clients.reply(self._node, self._client, response)


class Clients(Workload):
    """All clients, their network and their history. ``driver`` makes the session of each."""

    def __init__(self, world: World, driver: Callable[[int, Rng], Driver]) -> None:
        super().__init__()
        mix = world.mix
        self.world = world
        self.generator = Generator(Random(f"{world.seed}/workload"), mix.keys)
        self._rng = Random(f"{world.seed}/client-network")
        self._loss = mix.loss
        self._delay_s = mix.delay_s_mean
        self._processes = 0
        self.quiet_until = 0.0
        count = mix.clients if world.options.clients is None else world.options.clients
        self._callers: dict[tuple[int, int], SimCaller] = {}
        self.members = [SimClient(self, number, driver) for number in range(count)]

    @property
    def are_idle(self) -> bool:
        """Whether every operation has ended and none will begin."""
        return all(client.is_idle for client in self.members)

    @property
    def is_full(self) -> bool:
        """Whether the history is long enough."""
        return self.operations >= OPERATIONS_MAX

    def start(self) -> None:
        """Let them begin."""
        for client in self.members:
            client.wait()

    def finish(self) -> None:
        """Lose nothing from now on, and come to an end."""
        self._loss = self.quiet_until = 0.0
        for client in self.members:
            client.finish()

    def hush(self, until_s: float) -> None:
        """What is under way goes on."""
        self.quiet_until = until_s

    def missing(self) -> str:
        """The operations without an answer, of which it names one."""
        waiting = [client.op for client in self.members if client.op is not None]
        return f"{len(waiting)} operations have no answer ({waiting[0].f} {waiting[0].key})" if waiting else ""

    def new_process(self) -> int:
        """A number for the history that was never used."""
        self._processes += 1
        return self._processes - 1

    def any_node(self, rng: Random) -> int:
        """Whichever is there."""
        peers = self.world.peers
        return peers[int(rng.random() * len(peers))]

    def record(self, kind: EventType, process: int, op: Op, value: Any) -> None:
        """One line of the history."""
        if kind == "invoke":
            self.operations += 1
        elif kind == "ok":
            self.answered += 1
        time_ns = int(self.world.now * 1e9)
        self.history.append(Event(kind, process, op.f, value, op.key, len(self.history), time_ns))
        if self.world.tracing:
            self.world.trace(None, kind, f"client {process}", f"{op.f} {op.key} {value!r}")

    def send(self, client: int, node: int, payload: Any) -> None:
        """A request on its way to a node."""
        if self._rng.random() >= self._loss:
            self.world.after(self._delay(), lambda: self.world.nodes[node].request(self._caller(client, node), payload))

    def reply(self, node: int, client: int, response: Any) -> None:
        """A reply on its way to a client."""
        if self._rng.random() >= self._loss:
            self.world.after(self._delay(), lambda: self.members[client].receive(response, node))

    def _caller(self, client: int, node: int) -> SimCaller:
        caller = self._callers.get((client, node))
        if caller is None:
            caller = self._callers[client, node] = SimCaller(self, client, node)
        return caller

    def _delay(self) -> float:
        return self._delay_s * (0.2 + self._rng.expovariate(1.0))
