"""AskedApp: the App of Asking. Builds values from what clients submit, judges them, runs what is decided.

A value holds its number, some submissions, and a checksum over all values up to it. The rule: the number follows that
of the last value, no submission was in a value before, the checksum is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, BinaryIO, ClassVar
from zlib import crc32

import msgspec
from msgspec import Meta

from quorate.kernel import ROOT, App, Key, Path, Requester
from quorate.kernel.app import Steps

from tests.toy.asking import Build, Decided, Judge, Run

GATHER_S = 0.02
"""How long the first submission waits for others."""
SUBMISSIONS_MAX = 3
"""In one value."""


class Submit(msgspec.Struct, frozen=True, array_like=True):
    """A client's request: have this put into a value, once."""

    id: Annotated[str, Meta(max_length=64)]
    data: Annotated[bytes, Meta(max_length=1024)]


class Applied(msgspec.Struct, frozen=True, array_like=True):
    """The answer: it is in a value that was run here."""

    id: str


class Block(msgspec.Struct, frozen=True, array_like=True):
    """What a value is made of."""

    number: int
    submissions: Annotated[tuple[Submit, ...], Meta(max_length=SUBMISSIONS_MAX)]
    checksum: int


_decode = msgspec.msgpack.Decoder(Block).decode


class Chain:
    """All values up to ``number``."""

    def __init__(self) -> None:
        self.number = 0
        self.checksum = 0
        self.ids: set[str] = set()

    def seal(self, submissions: tuple[Submit, ...]) -> bytes:
        """The next value, with these."""
        number = self.number + 1
        return msgspec.msgpack.encode(Block(number, submissions, self._checksum(number, submissions)))

    def check(self, value: bytes) -> Block:
        """What the next value holds. Raises ValueError, which says what is wrong, if it cannot be the next."""
        try:
            block = _decode(value)
        except msgspec.MsgspecError as error:
            raise ValueError(f"not a value: {error}") from error
        ids = [submission.id for submission in block.submissions]
        if block.number != self.number + 1:
            raise ValueError(f"number {block.number} does not follow {self.number}")
        if len(set(ids)) < len(ids) or not self.ids.isdisjoint(ids):
            raise ValueError("a submission is in it that was in a value before")
        if block.checksum != self._checksum(block.number, block.submissions):
            raise ValueError("the checksum is wrong")
        return block

    def add(self, value: bytes) -> Block:
        """Take the next value. Raises ValueError."""
        block = self.check(value)
        self.number, self.checksum = block.number, block.checksum
        self.ids.update(submission.id for submission in block.submissions)
        return block

    def _checksum(self, number: int, submissions: tuple[Submit, ...]) -> int:
        return crc32(msgspec.msgpack.encode((number, submissions)), self.checksum)


class AskedApp(App):
    """One node's. Each job takes some steps. ``begun`` and ``cancelled`` list the jobs of which that is true."""

    works: ClassVar[tuple[type, ...]] = (Build, Judge, Run)

    def __init__(self) -> None:
        self.chain = Chain()
        self.decided: list[bytes] = []
        self.begun: list[Any] = []
        self.cancelled: list[Any] = []
        self.fresh: dict[str, Submit] = {}
        self.pool: dict[str, Submit] = {}
        self.waiting: dict[str, Requester] = {}

    # --- clients ---

    def request(self, client: Requester, request: Submit) -> None:
        if request.id in self.chain.ids:
            self.port.reply(client, Applied(request.id))
            return
        self.waiting[request.id] = client
        if request.id not in self.pool:
            if not self.fresh:
                self.port.set_timer("gather", GATHER_S)
            self.fresh[request.id] = request

    def on_timer(self, key: Key) -> None:
        assert key == "gather"
        self.pool.update(self.fresh)
        self.fresh.clear()

    def closed(self, client: Requester) -> None:
        """Nobody waits any more; what was submitted stays."""
        self.waiting = {id: other for id, other in self.waiting.items() if other is not client}

    # --- what the core delivers and asks ---

    def output(self, value: Any, path: Path = ROOT) -> None:
        assert isinstance(value, Decided)
        assert value.first_index == len(self.decided) + 1
        self.decided += [entry.data for entry in value.entries]

    def work(self, job: Any) -> Steps:
        self.begun.append(job)
        try:
            if isinstance(job, Build):
                return (yield from self.build(job.height))
            if isinstance(job, Judge):
                return (yield from self.judge(job.height, job.value))
            return (yield from self.run(job.height, job.values))
        except GeneratorExit:
            self.cancelled.append(job)
            raise

    def build(self, height: int) -> Steps:
        self.expect(height)
        yield
        chosen = [submission for id, submission in self.pool.items() if id not in self.chain.ids][:SUBMISSIONS_MAX]
        if not chosen:
            raise ValueError("nobody has submitted anything")
        yield
        return self.chain.seal(tuple(chosen))

    def judge(self, height: int, value: bytes) -> Steps:
        self.expect(height)
        yield
        try:
            self.chain.check(value)
        except ValueError:
            return False
        yield
        return True

    def run(self, height: int, values: tuple[bytes, ...]) -> Steps:
        self.expect(height)
        assert self.decided[height - 1 :][: len(values)] == list(values), "jobs begin after the outputs before them"
        for value in values:
            for submission in self.chain.add(value).submissions:
                self.pool.pop(submission.id, None)
                self.fresh.pop(submission.id, None)
                if (client := self.waiting.pop(submission.id, None)) is not None:
                    self.port.reply(client, Applied(submission.id))
            yield

    def expect(self, height: int) -> None:
        """Jobs come in order: all below has been run."""
        assert height == self.chain.number + 1, f"asked about height {height} in the state at {self.chain.number}"

    def snapshot(self, path: Path = ROOT) -> Callable[[BinaryIO], None]:
        raise NotImplementedError("the log is kept whole")

    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        raise NotImplementedError("the log is kept whole")
