"""Simulated clients: each has one operation under way at most; and their network.

How a client asks, retries and gives up is its Driver's business; here are the links, which are slow, lose what they
carry, and break: by chance, with the process of a node, and when a node would greet otherwise than it did.
What they asked and were told is the history that is checked in the end. A client that does not know the outcome goes on
as a new process, as in Jepsen: its last operation stays open for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, log
from random import Random
from typing import Any
from typing import Protocol as Interface

from quorate.kernel import Rng
from quorate.sim.ground import Ground
from quorate.sim.history.events import Event, EventType
from quorate.sim.workload import Answer, Driver, Generator, Op, Workload

WAITS_MAX = 50
"""How often an operation may wait for its timeout, at most."""
OPERATIONS_MAX = 4000
"""Of one run: more would make checking the history slower than the run."""


class Service(Interface):
    """What clients are clients of (``logs.py``)."""

    def driver(self, client: int, rng: Rng, nodes: tuple[int, ...], patience_s: float) -> Driver:
        """A fresh client, which knows these nodes and waits so long, more or less, before it tries another way."""

    def generator(self, rng: Random, keys: int) -> Generator:
        """What its clients ask for, on so many keys."""

    def greeting(self, node: Any) -> Any:
        """What a node says on each new link. When it would say something else, it hangs up."""

    def at_door(self, node: Any, request: Any) -> Any:
        """A node's response to a request that needs no App; None: the App is to have it."""


class SimClient:
    """One client: what it asks for, and how long it waits."""

    def __init__(self, clients: Clients, number: int) -> None:
        self._clients = clients
        self._world = clients.world
        self._number = number
        self._rng = Random(f"{clients.world.seed}/client/{number}")
        self._process = clients.new_process()
        self._drivers = 0
        self._patience_s = self._world.mix.timeout_s * self._rng.uniform(0.5, 1.5)
        self._nodes: tuple[int, ...] = ()
        self._driver = self._make_driver()
        self._wake_at = inf
        self._last: list[Op] | None = None
        self._has_stopped = False
        self.links: dict[int, ClientLink] = {}
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
        self._last = [Op("read", key) for key in self._clients.generator.keys]
        if self.op is not None:
            if self._nodes == self._world.peers:
                self._driver.extend(inf)
            elif not set(self._nodes).intersection(self._world.peers):
                self._driver.extend(self._world.now + self._patience_s)  # all that it knows are gone for good
        if self._has_stopped:
            self._has_stopped = False
            self.wait()

    # --- operations ---

    def _begin(self) -> None:
        if self._last is None:
            if self._clients.is_full:
                self._has_stopped = True
                return
            if self._world.now < self._clients.quiet_until:
                self.wait()
                return
            self.op = self._clients.generator.next()
        elif self._last:
            self.op = self._last.pop()
        else:
            return
        if self._nodes != self._world.peers:
            self._begin_anew()
        value = list(self.op.value) if self.op.f == "cas" else self.op.value
        self._clients.record("invoke", self._process, self.op, value)
        self._driver.begin(self.op, self._world.now, self._deadline())
        self._act()

    def _deadline(self) -> float:
        if self._last is not None:
            return inf
        mix = self._world.mix
        waits = WAITS_MAX
        if mix.give_up:
            waits = min(1 + int(log(1.0 - self._rng.random()) / log(1.0 - mix.give_up)), WAITS_MAX)
        return self._world.now + mix.timeout_s * waits

    def _begin_anew(self) -> None:
        """Nodes have come or gone: whoever runs this client gives it their addresses."""
        for link in list(self.links.values()):
            self._clients.hang_up(link)
        self.links.clear()
        self._driver = self._make_driver()
        self._wake_at = inf

    def _make_driver(self) -> Driver:
        self._nodes = self._world.peers
        self._drivers += 1
        rng = Random(f"{self._world.seed}/driver/{self._number}/{self._drivers}")
        return self._clients.subject.driver(self._number, rng, self._nodes, self._patience_s)

    def _answered(self, answer: Answer) -> None:
        op = self.op
        assert op is not None, "an operation ends once"
        self._clients.generator.saw(op, answer)
        if answer.type == "ok" and op.f != "read" and answer.value is not False:
            identity = self._driver.identity()
            if identity is not None:
                self._clients.acknowledged[identity] = op
        self._clients.record(answer.type, self._process, op, answer.value)
        if answer.type == "info":
            self._process = self._clients.new_process()
        self.op = None
        self.wait()

    # --- links ---

    def opened(self, link: ClientLink, _: Any) -> None:
        """The node has greeted."""
        if self.links.get(link.node) is link and not link.is_open:
            link.is_open = True
            self._driver.opened(link.node, link.greeting, self._world.now)
            self._act()

    def lost(self, link: ClientLink, why: str) -> None:
        """The link is gone, or never was."""
        if self.links.get(link.node) is link:
            del self.links[link.node]
            tell = self._driver.lost if link.is_open else self._driver.unreached
            tell(link.node, why, self._world.now)
            self._act()

    def receive(self, link: ClientLink, response: Any) -> None:
        """A response arrives."""
        if self.links.get(link.node) is link:
            self._driver.receive(link.node, response, self._world.now)
            self._act()

    def _act(self) -> None:
        driver = self._driver
        wants = driver.take()
        at = driver.wake_at
        if at < self._wake_at:
            self._wake_at = at
            self._world.at(at, self._tick, driver, at)
        if wants is None:
            return
        links, clients = self.links, self._clients
        for node, payload in wants.sends:
            link = links.get(node)
            if link is None:
                assert not driver.is_linked, f"client {self._number} sends to node {node}, and has no link to it"
                link = links[node] = ClientLink(clients, self._number, node)
            clients.send(link, payload)
        for node in wants.hangups:
            if node in links:
                clients.hang_up(links.pop(node))
        for node in wants.dials:
            assert node not in links, f"client {self._number} has a link to node {node} already"
            links[node] = clients.dial(self._number, node, self._patience_s)
        if wants.answer is not None:
            self._answered(wants.answer)

    def _tick(self, driver: Driver, at: float) -> None:
        if driver is self._driver and at == self._wake_at:
            self._wake_at = inf
            driver.tick(self._world.now)
            self._act()


class ClientLink:
    """A link of one client to one node, and the client as that node sees it."""

    __slots__ = ("_clients", "client", "greeting", "is_open", "life", "node", "timeout_at")

    def __init__(self, clients: Clients, client: int, node: int) -> None:
        self._clients = clients
        self.client = client
        self.node = node
        self.timeout_at = inf
        self.life: int | None = None
        """Of the node, when it greeted; None: it did not, or this client uses no links."""
        self.greeting: Any = None
        self.is_open = False
        """As the client sees it."""

    @property
    def principal(self) -> str:
        """Nobody asked for a proof of it."""
        return f"client {self.client}"

    def reply(self, response: Any) -> None:
        """Over the clients' network."""
        self._clients.reply(self, response)


class Clients(Workload):
    """All clients, their network and their history. ``subject`` makes the driver of each."""

    def __init__(self, world: Ground[Any], subject: Service) -> None:
        super().__init__()
        mix = world.mix
        self.world = world
        self.subject = subject
        self.generator = subject.generator(Random(f"{world.seed}/workload"), mix.keys)
        self._rng = Random(f"{world.seed}/client-network")
        self._loss = mix.loss
        self._resets = mix.resets
        self._delay_s = mix.delay_s_mean
        self._processes = 0
        self.quiet_until = 0.0
        count = mix.clients if world.options.clients is None else world.options.clients
        self.members = [SimClient(self, number) for number in range(count)]

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
        self._loss = self._resets = self.quiet_until = 0.0
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

    # --- the clients' network ---

    def dial(self, client: int, node: int, timeout_s: float) -> ClientLink:
        """A link that may come about: the client is told either way, in time."""
        link = ClientLink(self, client, node)
        link.timeout_at = self.world.now + timeout_s
        if self._rng.random() >= self._loss:
            self._after(self._arrive, link)
        else:
            self._time_out(link)
        return link

    def send(self, link: ClientLink, payload: Any) -> None:
        """A request on its way to a node; some break the link, before they arrive or after."""
        rng = self._rng
        if rng.random() < self._loss:
            return
        if link.is_open and rng.random() < self._resets:
            self._after(self._lose, link, "reset")
            if rng.random() < 0.5:
                return
        self._after(self._deliver, link, payload)

    def reply(self, link: ClientLink, response: Any) -> None:
        """A response on its way to a client."""
        if link.life is not None and link.greeting != self.subject.greeting(self.world.nodes[link.node]):
            self._after(self._lose, link, "the nodes of this cluster are others now")
        elif self._rng.random() >= self._loss:
            self._after(self.members[link.client].receive, link, response)

    def hang_up(self, link: ClientLink) -> None:
        """The client has."""
        self._after(self._close, link)

    def crashed(self, node: int) -> None:
        """Its clients notice."""
        for client in self.members:
            link = client.links.get(node)
            if link is not None and link.is_open:
                self._after(self._lose, link, "closed by the other side")

    def _close(self, link: ClientLink, _: Any) -> None:
        node = self.world.nodes[link.node]
        if node.life == link.life:
            node.closed(link)

    def _arrive(self, link: ClientLink, _: Any) -> None:
        node = self.world.nodes[link.node]
        if not node.up:
            self._after(self._lose, link, "connection refused")
        elif not node.paused:
            self._greet(link, node)
        else:
            self._time_out(link)
            node.after(0.0, lambda: self._greet(link, node))

    def _greet(self, link: ClientLink, node: Any) -> None:
        link.life = node.life
        link.greeting = self.subject.greeting(node)
        if self._rng.random() >= self._loss:
            self._after(self.members[link.client].opened, link)
        else:
            self._time_out(link)

    def _time_out(self, link: ClientLink) -> None:
        """It does not come about."""
        at = max(link.timeout_at, self.world.now)
        self.world.at(at, lambda link, _: None if link.is_open else self._lose(link, "no answer"), link, None)

    def _deliver(self, link: ClientLink, payload: Any) -> None:
        node = self.world.nodes[link.node]
        if link.life is not None and node.life != link.life:
            self._after(self._lose, link, "reset")
        elif node.up:
            response = self.subject.at_door(node, payload)
            if response is None:
                node.request(link, payload)
            elif not node.paused:
                node.reply(link, response)

    def _lose(self, link: ClientLink, why: str) -> None:
        self.members[link.client].lost(link, why)

    def _after(self, act: Callable[[ClientLink, Any], None], link: ClientLink, what: Any = None) -> None:
        world = self.world
        world.at(world.now + self._delay_s * (0.2 - log(1.0 - self._rng.random())), act, link, what)
