"""Env: a core's only window on the world. Its verbs record effects; they never act.

All cores of one Host write into one Effects, which the Host turns into a Turn when the step ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

from quorate.kernel.ids import Key, Name, Path
from quorate.kernel.turn import Blame, Job, Record, Send, Timer, Turn

if TYPE_CHECKING:
    from quorate.kernel.core import Core
    from quorate.kernel.host import Host


class Rng(Interface):
    """What a core may ask of chance. ``random.Random`` fits; the shell seeds it."""

    def random(self) -> float:
        """A float in [0, 1)."""

    def uniform(self, a: float, b: float) -> float:
        """A float between a and b."""

    def getrandbits(self, k: int, /) -> int:
        """An integer of k random bits."""


class Effects:
    """What the verbs recorded since the last Turn was taken."""

    __slots__ = ("blames", "early", "jobs", "now", "outputs", "records", "sends", "timers", "upcalls")

    def __init__(self) -> None:
        self.now = 0.0
        self.early: list[Send] = []
        self.records: list[Record] = []
        self.sends: list[Send] = []
        self.timers: list[Timer] = []
        self.jobs: list[Job] = []
        self.outputs: list[Any] = []
        self.blames: list[Blame] = []
        self.upcalls: list[tuple[Path, Callable[[Any], None], Any]] = []

    def take(self) -> Turn:
        """The Turn of everything recorded, and a clean sheet. Each list is handed over, never copied."""
        turn = Turn()
        if self.early:
            turn.early, self.early = self.early, []
        if self.records:
            turn.records, self.records = self.records, []
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
        return turn


class Env:
    """The verbs of one core. ``id`` is this node, ``peers`` all nodes of the group, itself among them."""

    __slots__ = ("_effects", "_host", "_upcall", "id", "others", "path", "peers", "rng")

    def __init__(
        self,
        host: Host,
        effects: Effects,
        path: Path,
        node: int,
        peers: tuple[int, ...],
        rng: Rng,
        upcall: Callable[[Any], None] | None = None,
    ) -> None:
        self._host = host
        self._effects = effects
        self._upcall = upcall
        self.path = path
        self.id = node
        self.peers = peers
        self.others = tuple(peer for peer in peers if peer != node)
        self.rng = rng

    @property
    def now(self) -> float:
        """This node's own clock in seconds, still during a step. Its zero means nothing, its rate may drift."""
        return self._effects.now

    def send(self, to: int | tuple[int, ...], message: Any) -> None:
        """Send to these nodes once all that this node has persisted so far is durable. ``to`` may be itself."""
        nodes = (to,) if isinstance(to, int) else to
        if nodes:
            self._effects.sends.append(Send(nodes, self.path, message))

    def broadcast(self, message: Any) -> None:
        """Send to every node, itself included, once all that this node has persisted so far is durable."""
        self._effects.sends.append(Send(self.peers, self.path, message))

    def send_now(self, to: int | tuple[int, ...], message: Any) -> None:
        """Send at once. Only for what rests on no state that is not durable yet: say why at the call."""
        nodes = (to,) if isinstance(to, int) else to
        if nodes:
            self._effects.early.append(Send(nodes, self.path, message))

    def persist(self, record: Any) -> None:
        """Make a record durable, atomically with the others of this step and after all earlier ones."""
        self._effects.records.append(Record(self.path, record))

    def set_timer(self, key: Key, delay: float) -> None:
        """Have ``on_timer(key)`` called after ``delay`` seconds of the local clock; replaces the same key's."""
        self._effects.timers.append(Timer(self.path, key, self._effects.now + delay))

    def cancel_timer(self, key: Key) -> None:
        """Forget the timer of this key, if there is one."""
        self._effects.timers.append(Timer(self.path, key, None))

    def deliver(self, value: Any) -> None:
        """Hand a value upwards: to the parent after the running handler returns, or out of the Host."""
        if self._upcall is None:
            self._effects.outputs.append(value)
        else:
            self._effects.upcalls.append((self.path[:-1], self._upcall, value))

    def work(self, key: Key, job: Any) -> None:
        """Have a job done outside, after this step's outputs; its result comes to ``on_done(key, result)``."""
        self._effects.jobs.append(Job(self.path, key, job))

    def blame(self, node: int, why: str) -> None:
        """Say that a node did what a correct node never does. The shell logs and counts it."""
        self._effects.blames.append(Blame(node, why))

    def spawn(
        self, name: Name, core: Callable[..., Core], *args: Any, upcall: Callable[[Any], None], **kwargs: Any
    ) -> Core:
        """Make a child core at ``path + (name,)``; what it delivers comes to ``upcall``.

        ``upcall`` is a method of the parent or a functools.partial of one: a fork of the Host copies these, but not a
        closure. Raises ValueError where the path is taken, was retired, or is too deep, TypeError for a closure.
        """
        return self._host.spawn((*self.path, name), core, args, kwargs, upcall)

    def retire(self, name: Name) -> None:
        """Remove the child and all below it. Messages that still come for it are dropped."""
        self._host.retire((*self.path, name))
