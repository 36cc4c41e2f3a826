"""Env: a core's only window on the world. Its verbs record effects; they never act.

All cores of one Host write into one Effects, which the Host turns into a Turn when the step ends. What a verb needs at
once (a child, a stream of chance) it asks of the Hosting, which is the Host: an Env knows neither Host nor Core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableSequence, Sequence
from typing import Any, TypeVar
from typing import Protocol as Interface

from quorate.kernel.ids import Key, Name, Path
from quorate.kernel.inputs import Handed, Received
from quorate.kernel.roster import Roster
from quorate.kernel.turn import Blame, Job, Meet, Output, Part, Record, RosterChange, Send, Timer, Turn

T = TypeVar("T")


class Rng(Interface):
    """What a core may ask of chance. ``random.Random`` fits; the shell seeds it."""

    def random(self) -> float:
        """A float in [0, 1)."""

    def uniform(self, a: float, b: float) -> float:
        """A float between a and b."""

    def getrandbits(self, k: int, /) -> int:
        """An integer of k random bits."""

    def expovariate(self, lambd: float) -> float:
        """A float from the exponential distribution with mean ``1 / lambd``."""

    def sample(self, population: Sequence[T], k: int) -> list[T]:
        """So many different elements, in random order."""

    def shuffle(self, x: MutableSequence[Any]) -> None:
        """Put the elements into random order."""


class Chance(Interface):
    """Gives each path a stream of its own, so that a core's choices do not hang on what others drew."""

    def __call__(self, path: Path, seed: bytes = b"") -> Rng:
        """The stream of a path; of another seed than this life's where one is given."""


class Child(Interface):
    """What can be spawned. A Core is (``core.py``)."""

    env: Env

    def start(self) -> None:
        """Begin."""


ChildT = TypeVar("ChildT", bound=Child)


class Hosting(Interface):
    """What stands under the Envs of one node and does at once what they ask for. A Host does (``host.py``)."""

    def stream(self, path: Path) -> Rng:
        """The stream of chance of a path."""

    def change_roster(self, path: Path, change: RosterChange) -> None:
        """The core at a path meets a node or parts from one."""

    def spawn(
        self,
        path: Path,
        make: Callable[..., Any],
        args: Iterable[Any],
        kwargs: dict[str, Any],
        upcall: Callable[[Any], None] | None,
    ) -> Any:
        """Make the core at ``path``: ``make(env, *args, **kwargs)``. Raises what ``Env.spawn`` does."""

    def retire(self, path: Path) -> None:
        """Remove the core at ``path`` and all below it."""

    def hand(self, item: Handed) -> None:
        """Have a value come to a child after the running handler returns."""

    def receive(self, item: Received) -> None:
        """Have a message come to a core after the running handler returns."""


class Effects:
    """What the verbs recorded since the last Turn was taken."""

    __slots__ = (
        "at_once",
        "blames",
        "early",
        "is_strict",
        "jobs",
        "now",
        "outputs",
        "records",
        "replayed",
        "roster",
        "sends",
        "timers",
        "upcalls",
        "wall_ns",
    )

    def __init__(self) -> None:
        self.now = 0.0
        self.wall_ns = 0
        self.early: list[Send] = []
        self.at_once: list[Any] = []
        self.records: list[Record] = []
        self.is_strict = False
        """Whether something waits for one of the records."""
        self.sends: list[Send] = []
        self.timers: list[Timer] = []
        self.jobs: list[Job] = []
        self.outputs: list[Any] = []
        self.blames: list[Blame] = []
        self.roster: list[RosterChange] = []
        self.upcalls: list[tuple[Path, Callable[[Any], None], Any]] = []
        self.replayed: Path | None = None
        """The core whose inputs are being replayed: what it delivers, its parent has had."""

    def take(self) -> Turn:
        """The Turn of everything recorded, and a clean sheet. Each list is handed over, never copied."""
        turn = Turn()
        if self.early:
            turn.early, self.early = self.early, []
        if self.at_once:
            turn.at_once, self.at_once = self.at_once, []
        if self.records:
            turn.records, self.records = self.records, []
            turn.lazy, self.is_strict = not self.is_strict, False
        if self.sends:
            turn.sends, self.sends = self.sends, []
        if self.timers:
            turn.timers, self.timers = self.timers, []
        if self.jobs:
            turn.jobs, self.jobs = self.jobs, []
        if self.outputs:
            turn.outputs, self.outputs = self.outputs, []
        if self.blames:
            turn.blames, self.blames = self.blames, []
        if self.roster:
            turn.roster, self.roster = self.roster, []
        return turn


class Env:
    """The verbs of one core. ``id`` is this node, ``path`` the core's place below the root."""

    __slots__ = ("_effects", "_host", "_rng", "_roster", "_upcall", "id", "is_journaled", "path")

    def __init__(
        self, host: Hosting, effects: Effects, path: Path, roster: Roster, upcall: Callable[[Any], None] | None = None
    ) -> None:
        self._host = host
        self._effects = effects
        self._roster = roster
        self._upcall = upcall
        self._rng: Rng | None = None
        self.path = path
        self.id = roster.node
        self.is_journaled = False
        """Whether the inputs are journaled, so that what the core persists is not."""

    def join(self, roster: Roster, *, is_journaled: bool) -> None:
        """For the Host: look at this roster from now on."""
        self._roster = roster
        self.is_journaled = is_journaled

    @property
    def has_drawn(self) -> bool:
        """For the Host: whether the core has its stream of chance already."""
        return self._rng is not None

    @property
    def peers(self) -> tuple[int, ...]:
        """The nodes that can be sent to now. Closed roster: the members, itself among them; open: its links."""
        return self._roster.peers

    @property
    def others(self) -> tuple[int, ...]:
        """The peers without this node itself."""
        return self._roster.others

    @property
    def incarnation(self) -> bytes:
        """Empty, or what this node has been since it lost its memory and was repaired: 16 random bytes, of every life.

        What it promised and recorded before that is gone, and the others may still count on it.
        """
        return self._roster.incarnation

    @property
    def rng(self) -> Rng:
        """This path's own stream of chance."""
        if self._rng is None:
            self._rng = self._host.stream(self.path)
        return self._rng

    @property
    def now(self) -> float:
        """This node's own clock in seconds, still during a step. Its zero means nothing, its rate may drift."""
        return self._effects.now

    @property
    def wall_ns(self) -> int:
        """The world's clock as this node has it, in nanoseconds since 1970. It may be wrong, jump and go back."""
        return self._effects.wall_ns

    # --- to other nodes ---

    def send(self, to: int | tuple[int, ...], message: Any) -> None:
        """Send to these nodes once all that this node has persisted so far is durable. ``to`` may be itself."""
        nodes = (to,) if isinstance(to, int) else to
        if nodes:
            self._effects.sends.append(Send(nodes, self.path, message))

    def broadcast(self, message: Any) -> None:
        """Send to every peer once all that this node has persisted so far is durable."""
        if peers := self._roster.peers:
            self._effects.sends.append(Send(peers, self.path, message))

    def send_now(self, to: int | tuple[int, ...], message: Any) -> None:
        """Send at once. Only for what rests on no state that is not durable yet: say why at the call."""
        nodes = (to,) if isinstance(to, int) else to
        if nodes:
            self._effects.early.append(Send(nodes, self.path, message))

    def meet(self, address: str, key: bytes = b"", node: int | None = None) -> None:
        """Know a node from now on. Closed roster: ``node`` is its number, and it is a peer at once.

        Open roster: dial a stranger; ``on_met`` or ``on_unmet`` tells what came of it.
        """
        self._host.change_roster(self.path, Meet(address, key, node))

    def part(self, node: int, why: str, ban_s: float = 0.0) -> None:
        """Know a node no longer: what it still sends is dropped. A stranger may come again after ``ban_s``."""
        self._host.change_roster(self.path, Part(node, why, ban_s))

    def blame(self, node: int, why: str, evidence: Any = None) -> None:
        """Say that a node did what a correct node never does. The shell logs and counts it.

        ``evidence`` is a proof that others can check (``parts/votes/evidence.py``). Strangers have scores instead.
        """
        assert not self._roster.is_open, "strangers are scored, not blamed: see parts/scores.py"
        self._effects.blames.append(Blame(node, why, evidence))

    def suspect(self, node: int, why: str) -> None:
        """Say that a node did not do its part, as one that lies would not, nor one that is down, slow or cut off."""
        assert not self._roster.is_open, "strangers are scored, not suspected: see parts/scores.py"
        self._effects.blames.append(Blame(node, why, is_suspicion=True))

    # --- to the disk ---

    def persist(self, record: Any) -> None:
        """Make a record durable, atomically with the others of this step and after all earlier ones.

        For what may never be contradicted: nothing that is sent later leaves before it is durable.
        """
        if not self.is_journaled:
            self._effects.records.append(Record(self.path, record))
            self._effects.is_strict = True

    def note(self, record: Any) -> None:
        """Write a record, in order with the persisted ones. Nothing waits for it; a crash may lose it.

        For what others can give again, such as the blocks of a chain.
        """
        if not self.is_journaled:
            self._effects.records.append(Record(self.path, record))

    # --- to itself, later ---

    def set_timer(self, key: Key, delay: float) -> None:
        """Have ``on_timer(key)`` called after ``delay`` seconds of the local clock; replaces the same key's."""
        self._effects.timers.append(Timer(self.path, key, self._effects.now + delay))

    def cancel_timer(self, key: Key) -> None:
        """Forget the timer of this key, if there is one."""
        self._effects.timers.append(Timer(self.path, key, None))

    def work(self, key: Key, job: Any) -> None:
        """Have a job done outside, after this step's outputs; its result comes to ``on_done(key, result)``.

        The runtime does some types, the App others (``App.work``); a job that nobody knows ends in a Failed.
        """
        self._effects.jobs.append(Job(self.path, key, job))

    def work_now(self, key: Key, job: Any) -> None:
        """Have a job begun at once. Only for what rests on no state that is not durable yet: say why at the call."""
        self._effects.at_once.append(Job(self.path, key, job))

    def cancel_work(self, key: Key) -> None:
        """Stop the job of this key, if it is under way. Its result may be on its way already."""
        self._effects.jobs.append(Job(self.path, key, None))

    # --- up and down the tree ---

    def deliver(self, value: Any) -> None:
        """Hand a value upwards: to the parent after the running handler returns, or out of the Host."""
        if self._effects.replayed == self.path:
            return
        if self._upcall is not None:
            self._effects.upcalls.append((self.path[:-1], self._upcall, value))
        elif self.path:
            self._effects.outputs.append(Output(self.path, value))
        else:
            self._effects.outputs.append(value)

    def deliver_now(self, value: Any) -> None:
        """Hand a value out of the Host at once. Only for what rests on no state that is not durable yet, and only where
        no parent takes it: say why at the call."""
        assert self._upcall is None, "a parent takes what is delivered when the handler returns"
        if self._effects.replayed != self.path:
            self._effects.at_once.append(Output(self.path, value) if self.path else value)

    def hand(self, name: Name, value: Any) -> None:
        """Hand a value down to a child: it comes to ``on_handed`` after the running handler returns."""
        self._host.hand(Handed(value, (*self.path, name)))

    def spawn(
        self, name: Name, core: Callable[..., ChildT], *args: Any, upcall: Callable[[Any], None] | None, **kwargs: Any
    ) -> ChildT:
        """Make a child core at ``path + (name,)``; what it delivers comes to ``upcall``, or with None leaves the Host.

        ``upcall`` is a method of the parent or a functools.partial of one: a fork of the Host copies these, but not a
        closure. Raises ValueError where the path is taken, was retired, or is too deep, TypeError for a closure.
        """
        child: ChildT = self._host.spawn((*self.path, name), core, args, kwargs, upcall)
        return child

    def retire(self, name: Name) -> None:
        """Remove the child and all below it. Messages that still come for it are dropped."""
        self._host.retire((*self.path, name))
