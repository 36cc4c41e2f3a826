"""A part of a core, alone: in a real Host, under a core that does nothing but what a test has it do."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from quorate.kernel import Core, Env, Host, Submitted, Turn
from quorate.sim.chance import streams

T = TypeVar("T")


class Idle(Core):
    """Has no rules."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.do: Callable[[], Any] = lambda: None
        self.returned: Any = None

    def submit(self, values: Sequence[bytes]) -> None:
        """Do what the test says, inside a step."""
        self.returned = self.do()


class Alone(Generic[T]):
    """What ``make`` makes of an Env, and a clock. ``do`` gives the exact effects of one step."""

    def __init__(self, make: Callable[[Env], T], node: int = 1, peers: tuple[int, ...] = (1, 2, 3)) -> None:
        self.now = 100.0
        self.host = Host(Idle, node, peers, streams(0))
        self.host.start(self.now)
        self._core: Any = self.host.root
        self.part = make(self._core.env)

    @property
    def returned(self) -> Any:
        """By the last call."""
        return self._core.returned

    def do(self, call: Callable[..., Any], *args: Any) -> Turn:
        """Call it in a step of its own."""
        self._core.do = lambda: call(*args)
        return self.host.step((Submitted((b"",)),), self.now)
