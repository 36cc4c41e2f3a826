"""SimNode: the Machine of one simulated node: what the real Node does, in virtual time.

How it works. What happens outside becomes an input or a client's request and waits in line. A step takes all that waits
(mostly one message; more where the node was busy or paused), and the Shell acts on its Turn.

A crash ends the process: Host, App, Shell, timers and jobs under way are gone. Disk, snapshots and clocks are the
machine's and stay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from heapq import heappush
from random import Random
from typing import Any

from quorate.kernel import (
    ROOT,
    App,
    Asked,
    Blame,
    Fired,
    HandOver,
    Host,
    Job,
    Key,
    Machine,
    Parted,
    Path,
    Received,
    Record,
    Requester,
    RosterChange,
    Send,
    Shell,
    Stalled,
    Submitted,
    Timer,
    Turn,
)
from quorate.kernel.roster import SELF
from quorate.parts.crypto.keys import Keyring
from quorate.parts.log.replicated import Decided, Restored, Stateless
from quorate.sim.chance import streams
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.clock import Clock, WallClock
from quorate.sim.damage import ENDED, Refusal
from quorate.sim.ground import Ground
from quorate.sim.jobs import SimDoer, SimJobs
from quorate.sim.mending import AGAIN_S, forget, may_mend
from quorate.sim.snapshot_store import SimSnapshots

STEPS_AT_ONCE_MAX = 10_000


class SimPort:
    """The Port of one life of a node."""

    __slots__ = ("_life", "_node")

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self._life = node.life

    def submit(self, values: Sequence[bytes], path: Path = ROOT) -> None:
        """In line for a step."""
        if values and self._node.life == self._life:
            self._node.submit(values, path)

    def ask(self, tokens: Sequence[int], path: Path = ROOT) -> None:
        """In line for a step."""
        if tokens and self._node.life == self._life:
            self._node.ask(tokens, path)

    def reply(self, client: Requester, response: Any) -> None:
        """Over the clients' network."""
        if self._node.life == self._life:
            self._node.reply(client, response)

    def set_timer(self, key: Key, delay_s: float) -> None:
        """On the node's own clock."""
        if self._node.life == self._life:
            self._node.set_app_timer(key, delay_s)

    def cancel_timer(self, key: Key) -> None:
        """Whether it is set or not."""
        if self._node.life == self._life:
            self._node.set_app_timer(key, None)

    @property
    def wall_ns(self) -> int:
        """The node's own, which is wrong."""
        return self._node.wall.at(self._node.world.now)


class SimNode(Machine):
    """One machine. ``id`` is its number, ``peers`` whom it knows when it begins to live for the first time."""

    # Beyond thirty attributes Python looks each up in a dict, and these are looked up in each step.
    __slots__ = (
        "_act",
        "_asked",
        "_busy_until",
        "_checkers",
        "_deferred",
        "_durable",
        "_frames_until_checkpoint",
        "_held",
        "_mark",
        "_on_output",
        "_on_step",
        "_on_turn",
        "_reboot_rng",
        "_seed",
        "_step_s",
        "_submitted",
        "_timer_count",
        "_timers",
        "_wall_rng",
        "_written",
        "ambush",
        "app",
        "clock",
        "disk",
        "hangs_found",
        "host",
        "id",
        "inbox",
        "incarnation",
        "is_off",
        "is_stateless",
        "jobs",
        "life",
        "paused",
        "peers",
        "place",
        "reboots",
        "requests",
        "rng",
        "shell",
        "stepping",
        "stores",
        "up",
        "wall",
        "watches",
        "world",
    )

    host: Host
    app: App
    shell: Shell
    jobs: SimJobs

    def __init__(self, world: Ground[SimNode], node: int, seed: str, peers: tuple[int, ...] | None = None) -> None:
        self.world = world
        self.id = node
        self.place = node
        """What tells its App's folder from others: two nodes may claim one number."""
        self.rng = Random(f"{seed}/node/{node}")
        self._seed = seed
        self.clock = Clock(self.rng.uniform(0.0, 1000.0))
        self._reboot_rng = Random(f"{seed}/reboot/{node}")
        self.reboots = 0
        """How often its clock began anew with the machine."""
        self._wall_rng = Random(f"{seed}/wall/{node}")
        self.wall = WallClock(self._wall_skew_s())
        self.disk = world.storage.disk(Random(f"{seed}/disk/{node}"), world.mix.sync_s, world.after)
        self.hangs_found = 0
        """How often it noticed that its disk does nothing."""
        self.disk.synced = self._synced
        self.disk.broke = self._broke
        self.stores: dict[Path, SimSnapshots] = {ROOT: world.storage.snapshots()}
        """The snapshots of the core at each path."""
        self.peers = world.peers if peers is None else peers
        """Whom it is told of at its start, itself among them."""
        self.incarnation = b""
        """Of one that lost its folder and was repaired."""
        self.life = 0
        self.up = False
        self.is_off = False
        self.is_stateless = False
        """Whether it said that it keeps no state."""
        """Whether it is down, and nobody starts it again."""
        self.paused = False
        self.inbox: list[Any] = []
        self.requests: list[tuple[Requester, Any]] = []
        self.stepping = False
        self.ambush: Callable[[], None] | None = None
        """What the nemesis does to this node soon after its next write."""
        self._timers: dict[tuple[Path | None, Key], tuple[float, int]] = {}
        """By path and key; an App's have no path."""
        self._timer_count = 0
        self._held: deque[Any] = deque()
        self._busy_until = 0.0
        self._step_s = world.mix.step_s
        self._frames_until_checkpoint = 0
        self._deferred: list[Callable[[], None]] = []
        self._submitted: dict[Path, list[bytes]] = {}
        self._asked: dict[Path, list[int]] = {}
        self._written = self._durable = 0
        """Sequence numbers: of the newest frame queued, and of the newest that is durable."""
        self._checkers: Sequence[Checker] = world.checkers
        self._on_output = world.on_output
        self._on_step = world.on_step
        self._on_turn = world.on_turn
        self._mark = world.mark
        self.watches = type(world.promises) is not Checker

    # --- life and death ---

    def start(self) -> None:
        """Begin a life: restore what is durable, then start. A disk that is damaged is refused."""
        world = self.world
        self.life += 1
        try:
            frames = self.disk.recover(world.storage.medium)
        except Refusal as refusal:
            if not may_mend(self, refusal.how):
                world.refuse(self.id, refusal.how, str(refusal))
                return
            frames = forget(self, refusal)
        self.up = True
        self.paused = False
        self.stepping = False
        self._busy_until = 0.0
        self._written = self._durable = 0
        self._frames_until_checkpoint = self._checkpoint_after()
        now = self.clock.at(world.now)
        self.host = self.new_host(self.incarnation)
        assert self.host.root.is_open == world.is_open, "the core and its subject differ on who may connect"
        self.app = world.make_app(self.place, Random(f"{self._seed}/app/{self.id}/{self.life}"))
        self.app.port = SimPort(self)
        self.jobs = SimJobs(self, self.app)
        self.shell = world.shell(self.host, self.app, self, Restored)
        self._act = self.acting()
        for frame in frames:
            for record in frame:
                self.host.restore(record, now)
        if world.tracing:
            world.trace(self.id, "start", f"life {self.life}", f"{len(self.disk.journal)} frames")
        turn = self.host.start(now, self.wall.at(world.now))
        for checker in self._checkers:
            checker.started(self.id, self.host.root)
        self._act(turn)
        if self.disk.stalled is not None:
            self.shell.reported(self.disk.stalled)
        self._wake()

    def new_host(self, incarnation: bytes) -> Host:
        """A host of this life of the node that has not started."""
        world = self.world
        by_inputs = world.options.by_inputs
        life = "" if by_inputs else f"/{self.life}"  # replayed inputs need the same chance
        chance = streams(f"{self._seed}/core/{self.id}{life}")
        if world.strangers is None:
            return Host(world.make, self.id, self.peers, chance, by_inputs=by_inputs, incarnation=incarnation)
        return Host(world.make, SELF, (), chance, by_inputs=by_inputs, is_open=True)

    def crash(self) -> None:
        """The process is gone."""
        if self.world.mix.reboots and self._reboot_rng.random() < self.world.mix.reboots:
            self.clock = Clock(self._reboot_rng.uniform(0.0, 1000.0))
            self.reboots += 1
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
        if self.world.strangers is not None:
            self.world.strangers.crashed(self)
        for snapshots in self.stores.values():
            snapshots.cut += snapshots.is_arriving
        if self.rng.random() < 0.5:
            for snapshots in self.stores.values():
                snapshots.forget_arriving()
        self.world.crashed(self.place, self.life)
        if self.world.tracing:
            self.world.trace(self.id, "crash", f"{len(self.disk.journal)} frames", "are durable")

    def hand_over(self, to: int | None = None) -> None:
        """It is about to stop, or ``to`` is to lead; whether it still leads, ``standing`` says."""
        self.inbox.append(HandOver(to=to))
        self._wake()

    def restart(self) -> None:
        """Start, if nobody did yet."""
        if not (self.up or self.is_off):
            self.start()

    def switch_off(self) -> None:
        """Down, until somebody says otherwise."""
        self.is_off = True
        if self.up:
            self.crash()

    def lose_folder(self, incarnation: bytes) -> None:
        """The process is gone, and all that it kept; it will be repaired as another incarnation."""
        if self.up:
            self.crash()
        self.disk.lose()
        self.stores = {ROOT: self.world.storage.snapshots()}
        self.incarnation = incarnation
        for checker in self._checkers:
            checker.lost(self.id)

    def end(self, why: str) -> None:
        """What is on its disk cannot be trusted: it stops. Another start would be refused, or mends it."""
        self.crash()
        if may_mend(self, ENDED):
            forget(self, Refusal(ENDED, why))
            self.world.after(AGAIN_S, self.restart)
        else:
            self.world.refuse(self.id, ENDED, why)

    def _broke(self, why: str) -> None:
        """After a failed sync nothing more is durable, so the process ends. What was durable is, at the next start."""
        if self.world.tracing:
            self.world.trace(self.id, "broken disk", "", why)
        self.crash()

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
    def doers(self) -> Mapping[type, SimDoer]:
        """How jobs are done that are not the App's."""
        return self.world.doers

    @property
    def keyring(self) -> Keyring | None:
        """The keys of all nodes, where they sign."""
        return self.world.keyring

    @property
    def applied(self) -> int:
        """The last index that the App was given by the root; of a node without state, the last that is committed."""
        if self.is_stateless:
            return self.host.root.standing().commit_index or 0
        return self.jobs.applied.get(ROOT, 0)

    @property
    def snapshots(self) -> SimSnapshots:
        """Those of the root."""
        return self.stores[ROOT]

    def snapshots_of(self, path: Path) -> SimSnapshots:
        """Those of the core at a path."""
        return self.stores.setdefault(path, self.world.storage.snapshots())

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

    def submit(self, values: Sequence[bytes], path: Path = ROOT) -> None:
        """Values of the App for the core. While the journal is busy they wait, so that many share a turn."""
        self._submitted.setdefault(path, []).extend(values)

    def operate(self, value: bytes) -> None:
        """A value of an operator, past the App."""
        self.submit((value,))
        self._wake()

    def ask(self, tokens: Sequence[int], path: Path = ROOT) -> None:
        """Reads of the App for the core."""
        self._asked.setdefault(path, []).extend(tokens)

    def put(self, item: Any) -> None:
        """An input, from whatever the machine is connected to."""
        self.inbox.append(item)
        if not (self.paused or self.stepping):
            self._go()

    @property
    def is_durable(self) -> bool:
        """Whether all that it has written is, so that what it says of itself holds after a crash."""
        return self._durable >= self._written

    def has_left(self, sequence: int) -> bool:
        """Whether all that was said before this frame of the journal has left."""
        return self._durable >= sequence

    def receive(self, item: Received, _: Any) -> None:
        """A message arrives."""
        world, sender = self.world, item.sender
        network = world.network
        if not self.up:
            return
        if network.cuts[sender] >> self.id & 1:  # a cut takes what is on its way, too
            network.cut += 1
            return
        if sender not in self.host.roster.members:  # as at a real node's door
            return
        network.delivered += 1
        if world.tracing:
            world.trace(self.id, "receive", sender, item.message)
        self.inbox.append(item)
        if not (self.paused or self.stepping):
            self._go()

    def loop_back(self, item: Received) -> None:
        """A message to oneself: the input of a later step."""
        self.inbox.append(item)

    def request(self, client: Any, request: Any) -> None:
        """A client's request arrives; it is lost on a node that is down."""
        if not self.up:
            return
        self.requests.append((client, request))
        self._wake()

    def reply(self, client: Requester, response: Any) -> None:
        """An answer of the App, by the way that the client came."""
        client.reply(response)

    def closed(self, client: Requester) -> None:
        """A client has gone."""
        if self.up:
            self.app.closed(client)

    def stall(self, why: str | None) -> None:
        """The disk is full (or no longer, None)."""
        self.disk.stall(why)
        if self.up:
            self.shell.reported(why)
            self._wake()

    # --- clock and timers ---

    def set_clock(self, rate: float, jump: float) -> None:
        """The clock runs at another rate after a jump. Timers stay where they are in local time.

        Whoever sets that clock sets the wall clock too, wrongly.
        """
        now = self.world.now
        self.clock.change(now, rate, jump)
        self.wall = WallClock(self._wall_skew_s())
        for name, (at, _) in list(self._timers.items()):
            self._set(name, at)

    def _wall_skew_s(self) -> float:
        return self._wall_rng.uniform(-1.0, 1.0) * self.world.mix.wall_skew_s_max

    def set_app_timer(self, key: Key, delay_s: float | None) -> None:
        """A timer of the App, in local time; None cancels it."""
        if delay_s is None:
            self._timers.pop((None, key), None)
        else:
            self._set((None, key), self.clock.at(self.world.now) + delay_s)

    def _set(self, name: tuple[Path | None, Key], at: float) -> None:
        world = self.world
        self._timer_count += 1
        self._timers[name] = (at, self._timer_count)
        world.sequence += 1
        heappush(world.heap, (self.clock.until(at, world.now), world.sequence, self._fire, name, self._timer_count))

    def _fire(self, name: tuple[Path | None, Key], count: int) -> None:
        timer = self._timers.get(name)
        if timer is None or timer[1] != count:
            return
        del self._timers[name]
        self.clock.reach(timer[0], self.world.now)
        if self.world.tracing:
            self.world.trace(self.id, "timer", name[1], "")
        path, key = name
        if path is None:
            self.after(0.0, lambda: self._fire_app(key))
            return
        self.put(Fired(key, path))

    def _fire_app(self, key: Key) -> None:
        self.shell.fired(key)
        self.app.settle()

    # --- steps ---

    def _wake(self) -> None:
        """Take the steps that are due, or have them taken when the node is free again."""
        if not (self.stepping or self.paused) and self.up:
            if self.inbox or self.requests or self._asked or (self._submitted and self._may_submit()):
                self._go()

    def _go_on(self, life: int, _: Any) -> None:
        if life == self.life and self.up:
            self.stepping = False
            self._wake()

    def _go(self) -> None:
        """There is something to do, and nothing in the way, but that the node may still be busy."""
        self.stepping = True
        step_s = self._step_s
        if step_s and self.world.now < self._busy_until:
            self.world.at(self._busy_until, self._go_on, self.life, None)
            return
        for _step in range(STEPS_AT_ONCE_MAX):
            if self.requests:
                self._serve()
            if self._submitted or self._asked:
                inputs = self._take_inputs()
                if not inputs:
                    break
            elif self.inbox:
                inputs, self.inbox = self.inbox, []
            else:
                break
            self._step(inputs)
            if step_s:
                self._busy_until = self.world.now + step_s
                break
        else:
            raise Violation("progress", f"node {self.id} steps without end in no time: it sends to itself for ever")
        self.stepping = False
        if step_s and (self.inbox or self.requests or self._submitted or self._asked):
            self._wake()

    def _serve(self) -> None:
        requests, self.requests = self.requests, []
        for client, request in requests:
            self.app.request(client, request)
        self.app.settle()

    def _may_submit(self) -> bool:
        return self._durable >= self._written or not self.host.root.gathers

    def _take_inputs(self) -> list[Any]:
        """What is in line. What clients ask comes before or after what peers say: sockets have no order."""
        inputs, self.inbox = self.inbox, []
        asked: list[Any] = []
        if self._submitted and self._may_submit():
            asked += [Submitted(tuple(values), path) for path, values in self._submitted.items()]
            self._submitted.clear()
        if self._asked:
            asked += [Asked(tuple(tokens), path) for path, tokens in self._asked.items()]
            self._asked.clear()
        if asked and inputs and self.rng.random() < 0.5:
            return asked + inputs
        return inputs + asked

    def _step(self, inputs: list[Any]) -> None:
        world, node, host = self.world, self.id, self.host
        now = world.now
        turn = host.step(inputs, self.clock.at(now), int(now * 1e9) + self.wall.epoch_ns)
        root = host.root
        for check in self._on_step:
            check(node, root)
        for look in self._on_turn:
            look(node, root, turn)
        world.steps += 1
        world.digest.step(now, node, len(inputs), turn)
        self._act(turn)
        if world.strangers is not None:
            for item in inputs:
                if type(item) is Parted:
                    world.strangers.took(self, item.node, self._written)

    def acting(self) -> Callable[[Turn], None]:
        """What is done with a Turn."""
        return self.shell.act

    # --- Machine: what the Shell asks for ---

    def send(self, sends: Sequence[Send]) -> None:
        """Over the simulated network, or along the links of an open roster."""
        strangers = self.world.strangers
        if strangers is None:
            self.world.network.send(self.id, sends)
        else:
            strangers.send(self, sends)

    def sender(self) -> Callable[[Sequence[Send]], None]:
        """Straight into the network, if nobody is a stranger."""
        return partial(self.world.network.send, self.id) if self.world.strangers is None else self.send

    def is_checkpoint_due(self) -> bool:
        """Now and then."""
        self._frames_until_checkpoint -= 1
        if self._frames_until_checkpoint > 0:
            return False
        self._frames_until_checkpoint = self._checkpoint_after()
        return True

    def append(self, records: Sequence[Record]) -> int:
        """A frame."""
        return self._wrote(self.disk.append(records), records)

    def replace(self, state: Sequence[Record], records: Sequence[Record]) -> int:
        """A checkpoint, at once."""
        return self._wrote(self.disk.replace(state), state)

    def _wrote(self, sequence: int, records: Sequence[Record]) -> int:
        self._written = sequence
        if self.world.tracing:
            self.world.trace(self.id, "write", f"#{sequence}", [record.value for record in records])
        if self.ambush is not None:
            strike, self.ambush = self.ambush, None
            self.world.after(self.rng.random() * self.disk.sync_s, strike)
        return sequence

    def set_timers(self, timers: Sequence[Timer]) -> None:
        """In local time."""
        for timer in timers:
            name = (timer.path, timer.key)
            if timer.at is None:
                self._timers.pop(name, None)
            else:
                self._set(name, timer.at)

    def change_roster(self, change: RosterChange) -> None:
        """For the world to act on."""
        self.world.change_roster(self, change)

    def blame(self, blame: Blame) -> None:
        """For the world to judge."""
        self.world.blamed(self.id, blame)

    def begin(self, job: Job) -> None:
        """It takes time."""
        self.jobs.begin(job)

    def load(self, value: Restored, path: Path) -> None:
        """It takes time."""
        self.jobs.load(value.index, path)

    def tick_later(self, delay_s: float) -> None:
        """As long as this life lasts, and not while it is paused."""
        self.after(delay_s, self.shell.tick)

    def writing(self) -> str:
        """That is all there is to say."""
        return "a sync does not end"

    def stalls(self, why: str | None) -> None:
        """In line for the cores; what they have not got is refused, as at a real node."""
        if self.world.tracing:
            self.world.trace(self.id, "stall", "", why)
        self.hangs_found += why is not None and self.disk.is_hung
        self.inbox.append(Stalled(why))
        if why is not None:
            submitted, self._submitted = self._submitted, {}
            for path, values in submitted.items():
                self.app.refused(values, why, path)
        self.app.settle()

    def holds(self, turn: Turn) -> None:
        """Remember what it promises."""
        self._held.append(self._mark(self.id))

    def releases(self, turn: Turn, was_held: bool) -> None:
        """What it promises is out."""
        mark = self._held.popleft() if was_held else self._mark(self.id)
        if mark is not None:
            self.world.promises.released(self.id, mark)

    def hands_up(self, value: Any, path: Path) -> None:
        """Show it to the checkers, and remember how far the App is."""
        world = self.world
        if world.tracing:
            world.trace(self.id, "output", "", value)
        for look in self._on_output:
            look(self.id, value)
        if type(value) is Stateless:
            self.is_stateless = True
        elif type(value) is Decided:
            self.jobs.applied[path] = value.first_index + len(value.entries) - 1

    def _checkpoint_after(self) -> int:
        return int(self.world.mix.frames_per_checkpoint * (0.5 + self.rng.random()))

    def _synced(self, sequence: int) -> None:
        """The disk is durable up to a frame."""
        self._durable = sequence
        if self.paused:
            return
        if self.world.tracing:
            self.world.trace(self.id, "durable", f"#{sequence}", "")
        self.shell.durable(sequence)
        self._wake()
