"""OneNode: the least Machine that runs a Host, with a journal in memory and crashes. The test plays the rest."""

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from quorate.kernel import (
    ROOT,
    App,
    Blame,
    Core,
    Env,
    Host,
    Input,
    Job,
    Machine,
    Path,
    Record,
    Requester,
    RosterChange,
    Send,
    Shell,
    Timer,
    Turn,
)
from quorate.parts.log.replicated import Restored
from quorate.sim.chance import streams


class Outputs(App):
    """Lists what it is given in the ``outputs`` of its node, if it has one, which outlive it."""

    def __init__(self, node: "OneNode | None" = None) -> None:
        self.node = node

    def output(self, value: Any, path: Path = ROOT) -> None:
        if self.node is not None:
            self.node.outputs.append(value)

    def request(self, client: Requester, request: Any) -> None:
        raise NotImplementedError

    def snapshot(self, path: Path = ROOT) -> Callable[[BinaryIO], None]:
        raise NotImplementedError

    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        raise NotImplementedError


class OneNode(Machine):
    """What has left the node is in ``sent`` and ``outputs``; what its journal holds survives ``crash``."""

    def __init__(
        self, make: Callable[[Env], Core], node: int, peers: tuple[int, ...], *, seed: int = 0, by_inputs: bool = False
    ) -> None:
        self._make = make
        self._peers = peers
        self._seed = seed
        self._by_inputs = by_inputs
        self.node = node
        self.journal: list[list[Record]] = []  # the records of one Turn are written whole or not at all
        self.durable = 0
        self.sent: list[Send] = []
        self.outputs: list[Any] = []
        self.jobs: list[Any] = []
        self.boot()

    def make_app(self) -> App:
        """A fresh one for each life."""
        return Outputs(self)

    def boot(self, now: float = 0.0) -> None:
        """A process begins: restore what the journal holds, then start."""
        # A node's chance is its own, and the same in each life: a nonce must not hang on luck.
        self.host = Host(self._make, self.node, self._peers, streams(self._seed), by_inputs=self._by_inputs)
        self.shell = Shell(self.host, self.make_app(), self, Restored)
        for records in self.journal:
            for record in records:
                self.host.restore(record, now)
        self.durable = len(self.journal)
        self.shell.barrier.durable(self.durable)
        self.shell.start(now)

    def step(self, *inputs: Input, now: float = 0.0) -> Turn:
        """One step; what may leave at once leaves."""
        return self.shell.step(inputs, now)

    def sync(self) -> None:
        """All that was written is durable now."""
        self.durable = len(self.journal)
        self.shell.durable(self.durable)

    def crash(self, lucky: int = 0) -> None:
        """The process ends. Of the Turns not yet durable, the first ``lucky`` reached the disk all the same."""
        del self.journal[self.durable + lucky :]

    # --- Machine ---

    def send(self, sends: Sequence[Send]) -> None:
        self.sent += sends

    def append(self, records: Sequence[Record]) -> int:
        self.journal.append(list(records))
        return len(self.journal)

    def replace(self, state: Sequence[Record], records: Sequence[Record]) -> int:
        raise NotImplementedError

    def set_timers(self, timers: Sequence[Timer]) -> None:
        pass

    def change_roster(self, change: RosterChange) -> None:
        pass

    def blame(self, blame: Blame) -> None:
        pass

    def begin(self, job: Job) -> None:
        self.jobs.append(job)

    def load(self, value: Any, path: Path) -> None:
        self.outputs.append(value)
        self.shell.loaded(lambda: None, path)
