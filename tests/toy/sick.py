"""Apps that answer late, wrong or not at all, and cores with a planted bug."""

from __future__ import annotations

from itertools import count, cycle
from typing import Any

import msgspec

from quorate.kernel import Env, Failed, Key
from quorate.kernel.app import Steps
from quorate.parts.quorum import Threshold

from tests.toy.app import AskedApp, Block
from tests.toy.asking import NEVER, Asking, Build, Chosen, Entered, Join, Judge, Proposal, Run, Voted

LATE_STEPS = 300
"""A step takes two milliseconds, so this is longer than a round."""

# --- late ---


class Late(AskedApp):
    """Takes its time for one kind of job: longer than a round, half of one, nearly none."""

    def __init__(self) -> None:
        super().__init__()
        self.lateness = cycle((LATE_STEPS, LATE_STEPS // 4, 1))

    def dawdle(self) -> Steps:
        for _ in range(next(self.lateness)):
            yield


class LateBuilder(Late):
    """Builds late."""

    def build(self, height: int) -> Steps:
        yield from self.dawdle()
        return (yield from super().build(height))


class LateJudge(Late):
    """Judges late."""

    def judge(self, height: int, value: bytes) -> Steps:
        yield from self.dawdle()
        return (yield from super().judge(height, value))


class LateRunner(Late):
    """Runs late: what is asked meanwhile waits in line."""

    def run(self, height: int, values: tuple[bytes, ...]) -> Steps:
        yield from self.dawdle()
        yield from super().run(height, values)


class WaitsForTimer(AskedApp):
    """Builds when a timer of its own runs out."""

    def __init__(self) -> None:
        super().__init__()
        self.is_time = False
        self.waits = 0

    def build(self, height: int) -> Steps:
        self.is_time = False
        self.waits += 1
        self.port.set_timer("build", 0.1 * (height % 5))
        try:
            while not self.is_time:
                yield
        finally:
            self.port.cancel_timer("build")
        return (yield from super().build(height))

    def on_timer(self, key: Key) -> None:
        if key == "build":
            self.is_time = True
        else:
            super().on_timer(key)


# --- wrong ---


class WrongBuilder(AskedApp):
    """Builds values that break the rule, each in another way. It judges rightly."""

    def __init__(self) -> None:
        super().__init__()
        self.ways = count()
        self.lies: list[bytes] = []

    def build(self, height: int) -> Steps:
        value = yield from super().build(height)
        block = msgspec.msgpack.decode(value, type=Block)
        wrong = [
            msgspec.structs.replace(block, number=block.number + 1),
            msgspec.structs.replace(block, checksum=block.checksum ^ 1),
            msgspec.structs.replace(block, submissions=block.submissions * 2),
        ]
        self.lies.append((msgspec.msgpack.encode(wrong), b"", *map(msgspec.msgpack.encode, wrong))[next(self.ways) % 5])
        return self.lies[-1]


class Crooked(WrongBuilder):
    """Builds bad values and finds everything good."""

    def judge(self, height: int, value: bytes) -> Steps:
        yield
        return True


# --- missing ---


class Speechless(AskedApp):
    """Cannot judge what is bad, and says so."""

    def judge(self, height: int, value: bytes) -> Steps:
        yield
        self.chain.check(value)  # raises ValueError
        return True


class NeverBuilds(AskedApp):
    """Has nothing to propose, whoever submits."""

    def build(self, height: int) -> Steps:
        raise ValueError("this App builds nothing")
        yield


class NoBuilder(AskedApp):
    """Does not know how to build: nobody does this job."""

    works = (Judge, Run)


class NoJudge(AskedApp):
    """Does not know how to judge."""

    works = (Build, Run)


# --- cores with a bug ---


class VotesUnjudged(Asking):
    """Says yes to whatever is proposed."""

    def on_proposal(self, sender: int, m: Proposal) -> None:
        if m.height == self.height and m.round >= self.round:
            if m.round > self.round:
                self.enter(m.round)
            self.vote(m.value, True)


class DecidesAlone(Asking):
    """One yes is enough."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.quorum = Threshold(env.peers, 1)


class IgnoresFailed(Asking):
    """Takes a Failed for a yes."""

    def on_done(self, key: Key, result: Any) -> None:
        is_answer = isinstance(self.question, Judge) and key == ("ask", self.asked)
        super().on_done(key, True if is_answer and isinstance(result, Failed) else result)


class TakesStale(Asking):
    """Takes the answer to an earlier question for that to the present one, and cancels nothing."""

    def drop_question(self) -> None:
        self.question = None

    def on_done(self, key: Key, result: Any) -> None:
        is_answer = key[0] == "ask" and result is not None
        super().on_done(("ask", self.asked) if is_answer else key, result)


class ForgetsVote(Asking):
    """A yes is not durable."""

    def restore(self, record: Chosen | Entered | Voted) -> None:
        if not isinstance(record, Voted):
            super().restore(record)


class ProposesFreely(Asking):
    """Asks for a new value whatever those that joined have voted for."""

    def on_join(self, sender: int, m: Join) -> None:
        super().on_join(sender, msgspec.structs.replace(m, voted=NEVER))
