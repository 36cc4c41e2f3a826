"""Shell: what every machine does with a Turn, real or simulated, in the one order that the durability rule allows.

How it works. A step's early sends leave, its records are written, timers are set, the roster changes, blames are told,
and outputs and jobs that rest on nothing go up. When the Barrier lets the Turn go, its sends leave, its outputs go up
to the App and its jobs begin, in this order. An output of the type ``loads`` is not handed up: a snapshot is loaded
aside, and whatever comes after it from the same core, or from those below it, waits until the snapshot is the App's
state.

Much may wait for one snapshot, or for a disk that was slow: what goes up stands in one line, and between two of it the
Machine may ask for a pause, so that nothing else waits long.

An App that is in the middle of an output (``App.is_midway``) is given the rest when a timer of its own has ended that.

Storage that takes nothing is a stall, of which the App and every core hear: the Machine reports what it is told (a full
disk), and the WriteWatch finds what nobody tells (a disk that hangs).

Pure: a Machine does what touches the world.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from quorate.kernel.app import App
from quorate.kernel.barrier import Barrier
from quorate.kernel.host import Host
from quorate.kernel.ids import ROOT, Key, Path
from quorate.kernel.inputs import Input
from quorate.kernel.turn import Blame, Job, Output, Record, RosterChange, Send, Timer, Turn
from quorate.kernel.writes import TICK_S, WriteWatch


class Machine(ABC):
    """Disk, network, clock and threads of one node. Sequence numbers are those of the frames of its journal."""

    __slots__ = ()

    watches = True
    """Whether it is to be told what the Barrier holds and releases."""

    @abstractmethod
    def send(self, sends: Sequence[Send]) -> None:
        """Put messages on their ways, in order, to itself too."""

    def sender(self) -> Callable[[Sequence[Send]], None]:
        """What is called to send, in this life: ``send``, or the same by a shorter way."""
        return self.send

    @abstractmethod
    def append(self, records: Sequence[Record]) -> int:
        """Write one frame to the journal; its sequence number."""

    @abstractmethod
    def replace(self, state: Sequence[Record], records: Sequence[Record]) -> int:
        """Write a frame, as ``append``, and sooner or later have the state, which holds it, replace it and all before.

        Nobody waits for that. A journal in which the state comes at once may do without the frame.
        """

    def is_checkpoint_due(self) -> bool:
        """Whether the journal is long enough to be replaced."""
        return False

    @abstractmethod
    def set_timers(self, timers: Sequence[Timer]) -> None:
        """Set timers or cancel them."""

    @abstractmethod
    def change_roster(self, change: RosterChange) -> None:
        """Know a node, or know it no longer."""

    @abstractmethod
    def blame(self, blame: Blame) -> None:
        """Tell that a node misbehaves."""

    @abstractmethod
    def begin(self, job: Job) -> None:
        """Begin a job, or cancel the one of its key."""

    @abstractmethod
    def load(self, value: Any, path: Path) -> None:
        """Load the snapshot that an output names; ``Shell.loaded`` when it is there."""

    def tick_later(self, delay_s: float) -> None:  # noqa: B027 (optional)
        """Call ``Shell.tick`` after so long. A machine whose writes cannot hang need not."""

    def writing(self) -> str:
        """What storage is doing that it does not end, and since when, for a person."""
        return "a write does not end"

    def stalls(self, why: str | None) -> None:  # noqa: B027 (optional)
        """Put a Stalled in line: storage takes nothing for this reason, or takes records again (None)."""

    def holds(self, turn: Turn) -> None:  # noqa: B027 (optional)
        """The Barrier keeps a Turn."""

    def releases(self, turn: Turn, was_held: bool) -> None:  # noqa: B027 (optional)
        """A Turn is about to leave."""

    def hands_up(self, value: Any, path: Path) -> None:  # noqa: B027 (optional)
        """An output is about to go to the App, or to be loaded."""

    def pauses(self) -> bool:
        """Whether what else is to go up waits until ``Shell.go_on``, which the Machine then calls soon."""
        return False


class Shell:
    """One life of a node: Host, App, Barrier, and what waits for a snapshot."""

    barrier_type: ClassVar[type[Barrier]] = Barrier
    tick_s: ClassVar[float] = TICK_S

    def __init__(self, host: Host, app: App, machine: Machine, loads: type) -> None:
        self.host = host
        self.app = app
        self.barrier = self.barrier_type()
        self._machine = machine
        self._send = machine.sender()  # looked up once: these are called in each step
        self._may_leave = self.barrier.add
        self._watches = machine.watches
        self._loads = loads
        self._line: deque[Any] = deque()
        """Outputs and jobs that nothing holds back, in the order in which they go up."""
        self._loading: dict[Path, deque[Any]] = {}
        """By the core whose snapshot is being loaded, what waits behind it."""
        self._is_current = False
        self._writes = WriteWatch()
        self._reported: str | None = None
        self._hang: str | None = None
        self.stalled_why: str | None = None
        """Why storage takes nothing, while it does not."""

    @property
    def is_loading(self) -> bool:
        """Whether the App lacks what a snapshot holds, or was not given yet all that the node recovered."""
        return bool(self._loading) or not self._is_current

    def start(self, now: float, wall_ns: int = 0) -> Turn:
        """Start the Host, which has recovered, and act on what comes of it."""
        turn = self.host.start(now, wall_ns)
        self._is_current = not turn.outputs  # else when they have been handed up
        self.act(turn)
        return turn

    def step(self, inputs: Sequence[Input], now: float, wall_ns: int = 0) -> Turn:
        """Run the inputs and act on what comes of them."""
        turn = self.host.step(inputs, now, wall_ns)
        self.act(turn)
        return turn

    def act(self, turn: Turn) -> None:
        """Do the effects, or leave them with the Barrier."""
        machine = self._machine
        if turn.early:
            self._send(turn.early)
        sequence = None
        if turn.records:
            sequence = self.write(turn.records)
            if self._writes.wrote(sequence):
                machine.tick_later(self.tick_s)
        if turn.timers:
            machine.set_timers(turn.timers)
        if turn.roster or turn.blames:
            for change in turn.roster:
                machine.change_roster(change)
            for blame in turn.blames:
                machine.blame(blame)
        if turn.at_once:
            self._line_up(turn.at_once)
        if turn.sends or turn.outputs or turn.jobs:
            if self._may_leave(turn, None if turn.lazy else sequence):
                self._release(turn, False)
            elif self._watches:
                machine.holds(turn)
        elif sequence is not None and not turn.lazy:
            self._may_leave(turn, sequence)  # nothing of it waits, but the next may have to

    def write(self, records: Sequence[Record]) -> int:
        """A frame for the Turn; now and then a checkpoint of the state after it, in place of all before."""
        if self._machine.is_checkpoint_due():
            state = self.host.checkpoint()
            if state:  # else the journal cannot be replaced: the inputs in it are the state
                return self._machine.replace(state, records)
        return self._machine.append(records)

    def durable(self, sequence: int) -> None:
        """The journal is durable up to here."""
        self._writes.durable(sequence)
        if self.stalled_why is not None:
            self._look()
        for turn in self.barrier.durable(sequence):
            self._release(turn, True)

    def tick(self) -> None:
        """The time is over that the Machine was asked to wait for."""
        if self._writes.tick():
            self._machine.tick_later(self.tick_s)
        self._look()

    def reported(self, why: str | None) -> None:
        """Storage says that it takes nothing, or that it takes records again (None)."""
        self._reported = why
        if why is None:
            self._writes.progressed()
        self._look()

    def _look(self) -> None:
        """Tell the App and the cores of a stall once, and once of its end; what storage itself says goes first."""
        if not self._writes.is_stuck:
            self._hang = None
        elif self._hang is None:
            self._hang = f"the disk hangs: {self._machine.writing()}"
        why = self._reported or self._hang
        if why != self.stalled_why:
            self.stalled_why = why
            self.app.stalled(why)
            self._machine.stalls(why)

    def loaded(self, adopt: Callable[[], None], path: Path = ROOT) -> None:
        """The snapshot that a core's output named is here."""
        adopt()
        self._line.extendleft(reversed(self._loading.pop(path)))  # what stands in line already came later
        self.go_on()

    def go_on(self) -> None:
        """Hand up what stands in line, until the Machine pauses."""
        self._hand_up()
        self.app.settle()

    def fired(self, key: Key) -> None:
        """A timer of the App is up. It may have held what stands in line."""
        held = self.app.is_midway
        self.app.on_timer(key)
        if held and not self.app.is_midway:
            self._hand_up()

    def upward(self, turn: Turn) -> Sequence[Any]:
        """What goes up, in order: a job may be about the state that the outputs make."""
        return (*turn.outputs, *turn.jobs)

    def loading_before(self, path: Path) -> deque[Any] | None:
        """What waits for a snapshot that this path must wait for as well."""
        for above, waiting in self._loading.items():
            if path[: len(above)] == above:
                return waiting
        return None

    def _release(self, turn: Turn, was_held: bool) -> None:
        if self._watches:
            self._machine.releases(turn, was_held)
        if turn.sends:
            self._send(turn.sends)
        if turn.outputs or turn.jobs:
            self._line_up(self.upward(turn))

    def _line_up(self, items: Sequence[Any]) -> None:
        is_first = not self._line
        self._line += items
        if is_first:  # else the Machine has paused, and has it go on
            self.go_on()

    def _hand_up(self) -> None:
        machine, line, app = self._machine, self._line, self.app
        while line and not app.is_midway:
            item = line.popleft()
            kind = type(item)
            path, value = (item.path, item.value) if kind is Output else (ROOT, item)
            if self._loading and (waiting := self.loading_before(item.path if kind is Job else path)) is not None:
                waiting.append(item)
                continue
            if kind is Job:
                machine.begin(item)
            else:
                machine.hands_up(value, path)
                if type(value) is self._loads:
                    self._loading[path] = deque()
                    machine.load(value, path)
                else:
                    app.output(value, path)
            if line and machine.pauses():
                return
        if not (line or app.is_midway):
            self._is_current = True
