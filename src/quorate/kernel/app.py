"""App: what stands above a Host on one node, in the simulator and on a real cluster alike.

The shell hands an App the Host's outputs, in order and after the durability barrier, and the requests of clients. The
App answers through its Port, whose verbs the shell implements. An App is as pure as a core: no await, no clock, no
I/O of its own beyond its state machine's storage.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, TypeAlias
from typing import Protocol as Interface

Client: TypeAlias = Any
"""Whatever the shell uses to find a client's connection again."""


class Port(Interface):
    """What an App may do. Verbs take effect after the App's method returns."""

    def submit(self, values: Sequence[bytes]) -> None:
        """Have values decided."""

    def ask(self, tokens: Sequence[int]) -> None:
        """Have the tokens come back, in an output, when the local state is fresh enough for a read."""

    def reply(self, client: Client, response: Any) -> None:
        """Answer a client; a client that is gone is no error."""


class App(ABC):
    """The upper half of a node."""

    port: Port

    @abstractmethod
    def output(self, value: Any) -> None:
        """Take one output of the Host, in order."""

    def settle(self) -> None:  # noqa: B027 (optional)
        """A run of outputs and requests has ended: do once what they share."""

    @abstractmethod
    def request(self, client: Client, request: Any) -> None:
        """Take one decoded request of a client."""

    def stalled(self, why: str | None) -> None:  # noqa: B027 (optional)
        """Storage takes no records for this reason, or takes them again (None)."""

    @abstractmethod
    def snapshot(self) -> Callable[[BinaryIO], None]:
        """Capture the state as it is now; the returned function writes it, in another thread."""

    @abstractmethod
    def restore(self, file: BinaryIO) -> Callable[[], None]:
        """Load a snapshot aside, in another thread; the returned function replaces the state with it."""
