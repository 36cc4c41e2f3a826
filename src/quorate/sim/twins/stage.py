"""Stage: one scenario of Twins on a virtual clock, the same every time.

How it works. Every message takes the same time; disks are instant and nothing is lost but by the scenario. A *round* is
a view (or whatever the protocol calls it) of the messages, counted from 0. While round r is young, its partition holds
back its messages. When it has lasted ``ROUND_S`` from the moment its first message was sent, its leader is cut off
altogether, so that there is a next round, and everybody else is heard. After the last round nothing is cut, and the
honest nodes must execute every request within ``HEALED_S``.

In each round there are two new requests. The twins get them in different orders, so that two leading ones propose
different things. A third one comes when the leader is cut off, so that there is something to wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Any, BinaryIO, Final

from quorate.kernel import (
    ROOT,
    App,
    Blame,
    Done,
    Failed,
    Fired,
    Host,
    Job,
    Key,
    Machine,
    Path,
    Received,
    Record,
    Requester,
    Rng,
    RosterChange,
    Send,
    Submitted,
    Timer,
    Turn,
)
from quorate.parts import requests
from quorate.parts.crypto.keys import VerifyBatch
from quorate.parts.log.replicated import Decided, Restored
from quorate.sim.chance import streams
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.checkers.log import LogAgreement
from quorate.sim.trial import Trial
from quorate.sim.twins.scenarios import Scenario
from quorate.sim.workload import Subject

DELAY_S: Final = 0.01
JOB_S: Final = 0.001
ROUND_S: Final = 1.0
HEALED_S: Final = 30.0
POLL_S: Final = 0.1
LIVENESS: Final = "liveness"
STEPS_MAX: Final = 200_000


def view_of(message: Any) -> int | None:
    """To which round it belongs, where it says so."""
    return getattr(message, "view", None)


class Executed(App):
    """Remembers what was executed, and shows every output; of the twins, in which nobody is interested, neither."""

    def __init__(self) -> None:
        self.show: Callable[[Any], None] | None = None
        self.values: list[bytes] = []

    def output(self, value: Any, path: Path = ROOT) -> None:
        """Show it to the checkers."""
        if self.show is None:
            return
        self.show(value)
        if type(value) is Decided:
            self.values.extend(entry.data for entry in value.entries)

    def request(self, client: Requester, request: Any) -> None:
        """There are no clients here."""

    def snapshot(self, path: Path = ROOT) -> Callable[[BinaryIO], None]:
        """There is no disk here."""
        raise ValueError("there is no disk here")

    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        """There is no disk here."""
        raise ValueError("there is no disk here")


class Executions(Subject):
    """What stands above the cores of a Stage. The scenario asks for what clients would."""

    def app(self, node: int, rng: Rng) -> Executed:
        """A fresh one."""
        return Executed()


class Process(Machine):
    """One honest Host, whose disk takes no time. ``name`` tells the twins apart, ``node`` does not."""

    def __init__(self, stage: Stage, name: int, trial: Trial) -> None:
        self.stage = stage
        self.name = name
        self.node = name % stage.nodes
        self.is_honest = self.node != 0
        self.host = Host(trial.make, self.node, range(stage.nodes), streams(f"twins/{name}"))
        app = trial.app(name, Random(f"twins/{name}"))
        assert isinstance(app, Executed), app
        self.app = app
        if self.is_honest:
            app.show = self._show
        self.shell = trial.shell(self.host, app, self, Restored)
        self.timers: dict[tuple[Path, Key], float] = {}
        self._written = 0

    @property
    def round(self) -> int:
        """In which it is."""
        return self.host.root.standing().term

    def start(self) -> None:
        """Begin."""
        self.shell.start(0.0)
        self._check()

    def step(self, item: Any) -> None:
        """One input."""
        turn = self.host.step([item], self.stage.now)
        self._check()
        self.shell.act(turn)

    def _check(self) -> None:
        for checker in self.stage.checkers if self.is_honest else ():
            checker.stepped(self.node, self.host.root)

    def _show(self, value: Any) -> None:
        for checker in self.stage.checkers:
            checker.output(self.node, value)

    # --- Machine ---

    def send(self, sends: Sequence[Send]) -> None:
        """As the scenario lets them."""
        for send in sends:
            self.stage.send(self, send)

    def append(self, records: Sequence[Record]) -> int:
        """It is durable at once."""
        self._written += 1
        self.shell.barrier.durable(self._written)
        return self._written

    def replace(self, state: Sequence[Record], records: Sequence[Record]) -> int:
        """Never due."""
        return self.append(records)

    def set_timers(self, timers: Sequence[Timer]) -> None:
        """On the stage's clock."""
        for timer in timers:
            self._set(timer)

    def change_roster(self, change: RosterChange) -> None:
        """All are there from the beginning to the end."""

    def blame(self, blame: Blame) -> None:
        """Only the twins deserve it, and what they say is not heard."""
        if not self.is_honest or blame.is_suspicion:
            return
        if blame.node != 0:
            raise Violation("no blame", f"node {self.node} says that node {blame.node} {blame.why}")
        self.stage.blames += 1

    def begin(self, job: Job) -> None:
        """Jobs take a moment."""
        if job.work is not None:
            self.stage.after(JOB_S, partial(self.step, Done(job.key, self.stage.work(job), job.path)))

    def releases(self, turn: Turn, was_held: bool) -> None:
        """What it promises is out; a disk that takes no time holds nothing back."""
        for checker in self.stage.checkers if self.is_honest else ():
            mark = checker.mark(self.node)
            if mark is not None:
                checker.released(self.node, mark)

    def load(self, value: Any, path: Path) -> None:
        """There is no disk here."""
        raise Violation("snapshots", f"node {self.node} restores a snapshot, and nobody takes any")

    def _set(self, timer: Timer) -> None:
        name = (timer.path, timer.key)
        if timer.at is None:
            self.timers.pop(name, None)
            return
        at = self.timers[name] = timer.at
        self.stage.at(at, lambda: self._fire(name, at))

    def _fire(self, name: tuple[Path, Key], at: float) -> None:
        if self.timers.get(name) == at:
            del self.timers[name]
            self.step(Fired(name[1], name[0]))


class Stage:
    """One scenario of a Trial whose subject is Executions. ``run`` raises Violation."""

    def __init__(self, trial: Trial, scenario: Scenario) -> None:
        """Raises ValueError for a trial without keys: the requests are signed."""
        if trial.scheme is None:
            raise ValueError("Twins are for protocols whose nodes have keys")
        self.nodes = trial.options.nodes
        self.now = 0.0
        self.blames = self.messages = self.cut = 0
        self.log = LogAgreement()
        self.checkers: tuple[Checker, ...] = (self.log, *(make() for make in trial.invariants))
        self._scenario = scenario
        self._scheme = trial.scheme
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._began: dict[int, float] = {}
        """When the first message of a round was sent."""
        self._wanted: list[bytes] = []
        self.processes = [Process(self, name, trial) for name in range(self.nodes + 1)]

    @property
    def rounds(self) -> int:
        """How many there were, those after the scenario among them."""
        return len(self._began)

    def run(self) -> None:
        """The scenario, and then liveness."""
        for process in self.processes:
            if process.is_honest:
                for checker in self.checkers:
                    checker.started(process.node, process.host.root)
            process.start()
        self._begin(0)
        end = HEALED_S + ROUND_S * 2 * (len(self._scenario) + 1)
        while not self._is_done():
            if self.now >= end:
                raise Violation(LIVENESS, f"after {self.now:g} s: {self._what_is_missing()}")
            self._run_until(self.now + POLL_S)

    def _is_done(self) -> bool:
        if not self._is_over():
            return False
        wanted = set(self._wanted)
        return all(wanted <= set(process.app.values) for process in self.processes if process.is_honest)

    def _what_is_missing(self) -> str:
        honest = [process for process in self.processes if process.is_honest]
        done = [len(set(self._wanted) & set(process.app.values)) for process in honest]
        views = [process.round for process in honest]
        return f"of {len(self._wanted)} requests the honest nodes executed {done}, in views {views}"

    def _run_until(self, end: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= end:
            self.now, _, act = heappop(heap)
            act()
            if self._count > STEPS_MAX:
                raise Violation("progress", f"{STEPS_MAX} events in {self.now:g} s: they talk without end")
        self.now = end

    def at(self, time: float, act: Callable[[], None]) -> None:
        """Have this called then."""
        self._count += 1
        heappush(self._heap, (max(time, self.now), self._count, act))

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        """Have this called later."""
        self.at(self.now + delay_s, act)

    def work(self, job: Job) -> Any:
        """The result of a job."""
        if isinstance(job.work, VerifyBatch):
            return self._scheme.keyring().verify_batch(job.work)
        return Failed("there is no disk here")

    # --- rounds ---

    def _is_over(self) -> bool:
        """Whether nothing is cut any more."""
        began = self._began.get(len(self._scenario))
        return (began is not None and self.now >= began + ROUND_S) or self.now >= self._latest()

    def _latest(self) -> float:
        return ROUND_S * 2 * (len(self._scenario) + 1)

    def _begin(self, number: int) -> None:
        """A round begins: two clients want something."""
        self._began[number] = self.now
        if number >= len(self._scenario):
            return
        one, two, three = (requests.sign(self._scheme.client(client), (b"%d" % number,)) for client in range(3))
        self._wanted += [one, two, three]
        for process in self.processes:
            first, second = (two, one) if process.name == self.nodes else (one, two)
            for delay_s, value in ((0.0, first), (2 * JOB_S, second), (ROUND_S, three)):
                self.after(delay_s, partial(process.step, Submitted((value,))))

    def _is_cut(self, sender: Process, to: Process, number: int) -> bool:
        if number >= len(self._scenario) or self._is_over():
            return False
        round = self._scenario[number]
        if self.now < self._began[number] + ROUND_S:
            return round.parts(sender.name, to.name)
        return round.leader in (sender.node, to.node)

    def send(self, sender: Process, send: Send) -> None:
        """To every process of these nodes; to oneself, not to one's twin."""
        number = view_of(send.message)
        if number is None:
            number = sender.round
        if number not in self._began and all(earlier in self._began for earlier in range(number)):
            self._begin(number)
        if number not in self._began:
            number = max(self._began)
        item = Received(sender.node, send.message, send.path)
        for to in self.processes:
            if to.node not in send.to or (to.node == sender.node and to is not sender):
                continue
            if to is sender:
                self.after(0.0, partial(to.step, item))
            elif self._is_cut(sender, to, number):
                self.cut += 1
            else:
                self.messages += 1
                self.after(DELAY_S, partial(to.step, item))
