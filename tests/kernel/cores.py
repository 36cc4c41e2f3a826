"""Cores to test the kernel with: a Puppet that does what a test tells it, and a Board of counters with real state."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec

from quorate.kernel import Core, Env, Host, Key, Name, Path, Received

Action = Callable[["Puppet"], Any]


class Do(msgspec.Struct, frozen=True):
    """Have the Puppet that receives this run ``action`` as its handler."""

    action: Action


class Puppet(Core):
    """Runs the actions it is sent, and notes in ``seen`` whatever happens to it."""

    messages = (Do,)

    def __init__(self, env: Env, on_start: Action | None = None) -> None:
        super().__init__(env)
        self.on_start = on_start
        self.seen: list[Any] = []
        self.running = 0

    def start(self) -> None:
        self.seen.append("start")
        self._run(self.on_start)

    def on_do(self, sender: int, message: Do) -> None:
        self._run(message.action)

    def heard(self, value: Any) -> None:
        """The upcall of every child; a callable is run."""
        self._run(value if callable(value) else None)
        if not callable(value):
            self.seen.append(("heard", value))

    def submit(self, values: Sequence[bytes]) -> None:
        self.seen.append(("submit", values))

    def read(self, tokens: Sequence[int]) -> None:
        self.seen.append(("read", tokens))

    def on_timer(self, key: Key) -> None:
        self.seen.append(("timer", key))

    def on_done(self, key: Key, result: Any) -> None:
        self.seen.append(("done", key, result))

    def on_stalled(self, why: str | None) -> None:
        self.seen.append(("stalled", why))

    def settle(self) -> None:
        self.seen.append("settle")

    def hatch(self, number: int, on_start: Action | None = None) -> "Puppet":
        """Spawn a child Puppet."""
        child = self.env.spawn(("child", number), Puppet, on_start, upcall=self.heard)
        assert isinstance(child, Puppet)
        return child

    def _run(self, action: Action | None) -> None:
        assert self.running == 0, "entered twice at once"
        self.running += 1
        try:
            if action is not None:
                action(self)
        finally:
            self.running -= 1


def do(action: Action, *numbers: int, sender: int = 1) -> Received:
    """An input that makes the Puppet below these child numbers run ``action``."""
    return Received(sender, Do(action), tuple(("child", number) for number in numbers))


class Open(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    number: int


class Close(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    number: int


class Put(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    value: int


class Summed(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    total: int


class Closed(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    number: int


class Cell(Core):
    """A counter with some chance in it; tells its parent when it is odd."""

    messages = (Put,)
    records = (Summed,)

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.total = 0

    def begin(self) -> None:
        self.env.persist(Summed(0))

    def on_put(self, sender: int, message: Put) -> None:
        self.total += message.value + self.env.rng.getrandbits(4)
        self.env.persist(Summed(self.total))
        self.env.send(sender, Put(self.total))
        if self.total % 2:
            self.env.deliver(self.total)

    def restore(self, record: Summed) -> None:
        self.total = record.total

    def checkpoint(self) -> Iterable[Any]:
        yield Summed(self.total)


class Board(Core):
    """Opens and closes Cells, and sums what they deliver. A start draws from chance, so that replay must repeat it."""

    messages = (Open, Close)
    records = (Summed, Closed)
    children = (Cell,)

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.sum = 0
        self.closed: set[int] = set()
        self.open: set[int] = set()
        self.lottery: list[int] = []

    def start(self) -> None:
        self.lottery.append(self.env.rng.getrandbits(16))

    def on_open(self, sender: int, message: Open) -> None:
        if message.number not in self.closed | self.open:
            self.revive(("cell", message.number)).begin()

    def on_close(self, sender: int, message: Close) -> None:
        if message.number not in self.closed:
            self.env.persist(Closed(message.number))
            self._close(message.number)

    def on_total(self, number: int, total: int) -> None:
        self.sum += total
        self.env.persist(Summed(self.sum))
        self.env.set_timer(("sum", number), self.env.rng.random())
        self.env.deliver((number, self.sum))

    def restore(self, record: Summed | Closed) -> None:
        if isinstance(record, Summed):
            self.sum = record.total
        else:
            self._close(record.number)

    def revive(self, name: Name) -> Cell:  # type: ignore[override]
        self.open.add(name[1])
        cell = self.env.spawn(name, Cell, upcall=partial(self.on_total, name[1]))
        assert isinstance(cell, Cell)
        return cell

    def checkpoint(self) -> Iterable[Any]:
        yield Summed(self.sum)
        for number in sorted(self.closed):
            yield Closed(number)

    def _close(self, number: int) -> None:
        self.closed.add(number)
        self.env.retire(("cell", number))


def state_of(host: Host) -> tuple[int, list[int], dict[Path, int]]:
    """All durable state of a Board and its Cells."""
    board = host.root
    assert isinstance(board, Board)
    cells = {path: core.total for path, core in host.cores.items() if isinstance(core, Cell)}
    return board.sum, sorted(board.closed), cells


__all__ = ["Board", "Cell", "Close", "Do", "Open", "Puppet", "Put", "do", "state_of"]
