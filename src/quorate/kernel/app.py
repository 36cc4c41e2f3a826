"""App: what stands above a Host on one node, in the simulator and on a real cluster alike.

The shell hands an App the Host's outputs, in order and after the durability barrier, and the requests of clients. The
App answers through its Port, whose verbs the shell implements. An App is as pure as a core: no await, no clock, no
I/O of its own beyond its state machine's storage.

A core asks its App for what only the application can say (build a proposal, judge one, run a block) by ``env.work``
with a job of a type that the App names in ``works``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from typing import Any, BinaryIO, ClassVar, TypeAlias
from typing import Protocol as Interface

from quorate.kernel.ids import ROOT, Key, Path


class AppEnded(Exception):
    """The App cannot go on, for a reason that its text tells in full; its node ends."""


class StateDamaged(AppEnded):
    """What the App has on its disk is not what it wrote there."""


Steps: TypeAlias = Generator[None, None, Any]
"""A job of the App as it is done: each step is short (5 ms at most), what is returned is the result."""


class Requester(Interface):
    """Somebody who asked, at one of a node's front doors."""

    @property
    def principal(self) -> str:
        """Who that is, as far as the door made sure of it; empty: anybody."""

    def reply(self, response: Any) -> None:
        """Answer in the door's own language; one that is gone is no error."""


class Port(Interface):
    """What an App may do. Verbs take effect after the App's method returns. ``path``: of the core they are for."""

    def submit(self, values: Sequence[bytes], path: Path = ROOT) -> None:
        """Have values decided."""

    def ask(self, tokens: Sequence[int], path: Path = ROOT) -> None:
        """Have the tokens come back, in an output, when the local state is fresh enough for a read."""

    def reply(self, client: Requester, response: Any) -> None:
        """Answer a client; a client that is gone is no error."""

    def set_timer(self, key: Key, delay_s: float) -> None:
        """Have the App's ``on_timer(key)`` called after so long; replaces the same key's."""

    def cancel_timer(self, key: Key) -> None:
        """Forget the timer of this key, if there is one."""

    @property
    def wall_ns(self) -> int:
        """The world's clock, as this node has it."""


class StateMark(ABC):
    """A state that an App keeps on disk by itself, as it was when the mark was taken, until the mark is closed.

    On the loop, but for ``write``.
    """

    @abstractmethod
    def write(self, file: BinaryIO) -> None:
        """Make that state durable, and write what ``reopen`` finds it by; in another thread.

        Raises OSError; ValueError where that state was given up meanwhile.
        """

    @abstractmethod
    def stream(self) -> Callable[[BinaryIO], None]:
        """What writes that state as a snapshot does, for others. Raises ValueError where it was given up."""

    @abstractmethod
    def close(self) -> None:
        """No restart needs that state any more, and nobody asks for it. Harmless twice."""


class App(ABC):
    """The upper half of a node. ``path``: the core that an output or a snapshot is of, where there are several."""

    works: ClassVar[tuple[type, ...]] = ()
    """The types of the jobs that this App does for its core."""

    port: Port

    @property
    def is_midway(self) -> bool:
        """Whether it is in the middle of an output, and is given no further ones, and no jobs, until a timer of its own
        has it go on to the end."""
        return False

    @abstractmethod
    def output(self, value: Any, path: Path = ROOT) -> None:
        """Take one output of the Host, in order."""

    def settle(self) -> None:  # noqa: B027 (optional)
        """A run of outputs and requests has ended: do once what they share."""

    @abstractmethod
    def request(self, client: Requester, request: Any) -> None:
        """Take one decoded request of a client."""

    def closed(self, client: Requester) -> None:  # noqa: B027 (optional)
        """A client has gone: forget what it waits for."""

    def on_timer(self, key: Key) -> None:  # noqa: B027 (optional)
        """A timer of the App ran out."""

    def stalled(self, why: str | None) -> None:  # noqa: B027 (optional)
        """Storage takes no records for this reason, or takes them again (None)."""

    def refused(self, values: Sequence[bytes], why: str, path: Path = ROOT) -> None:  # noqa: B027 (optional)
        """Values that were submitted have not reached the core and will not: this node cannot take them in now."""

    def work(self, job: Any) -> Steps:
        """Do a job of one of the types in ``works``, step by step; a job that is cancelled is closed between steps.

        The first step is taken in order with the outputs, but see ``in_order``. Raising ValueError makes it a Failed.
        """
        raise NotImplementedError(f"{type(self).__name__} does no {type(job).__name__}")
        yield

    def in_order(self, job: Any) -> bool:
        """Whether the job begins only when those before it have ended."""
        return True

    @abstractmethod
    def snapshot(self, path: Path = ROOT) -> Callable[[BinaryIO], None]:
        """Capture the state as it is now; the returned function writes it, in another thread."""

    @abstractmethod
    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        """Load a snapshot aside, in another thread; the returned function replaces the state with it."""

    def mark(self, path: Path = ROOT) -> StateMark | None:
        """Mark the state as it is now, where the App keeps it on disk; None where it does not. Raises OSError."""
        return None

    def reopen(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], StateMark]:
        """Have the state aside that this node marked in an earlier life, in another thread. ``file`` has the mark.

        The returned function replaces the state with it, and gives the mark. Raises ValueError where it is not there as
        it was left, OSError.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no marks")
