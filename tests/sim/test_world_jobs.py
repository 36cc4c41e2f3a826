"""Jobs in a World: those of the App step by step, those of a Subject, and what becomes of them when a process ends."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from quorate.kernel import App, Core, Failed, Rng
from quorate.kernel.app import Steps
from quorate.sim.jobs import Pending, SimDoer
from quorate.sim.options import Options
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.world import World

from tests.sim.worlds import NoApp, NoSubject, Witness


class Build(msgspec.Struct, frozen=True):
    """A job of the App: so many steps."""

    name: str
    steps: int = 3
    ordered: bool = True


class Mine(msgspec.Struct, frozen=True):
    """A job of the Subject: it takes so long."""

    delay_s: float


class Builder(NoApp):
    """Lists the steps of its jobs, with the entries that it had been given then."""

    works = (Build,)

    def __init__(self) -> None:
        super().__init__()
        self.did: list[str] = []
        self.closed: list[str] = []

    def work(self, job: Any) -> Steps:
        if not job.steps:
            raise ValueError("nothing to build")
        try:
            for number in range(job.steps):
                self.did.append(f"{job.name}{number} of {len(self.outputs)}")
                yield
        except GeneratorExit:
            self.closed.append(job.name)
            raise
        return job.name

    def in_order(self, job: Any) -> bool:
        return bool(job.ordered)


class Site(NoSubject):
    """Builders, and miners who find what they are asked for."""

    doers: Mapping[type, SimDoer] = {
        Mine: lambda node, job: Pending(lambda: (node.id, job.work.delay_s), job.work.delay_s)
    }

    def app(self, node: int, rng: Rng) -> App:
        return Builder()


class Asking(Witness):
    """Asks for jobs: what it is submitted is the number of one of JOBS, or 100 more to cancel that."""

    def submit(self, values: Any) -> None:
        for value in values:
            number = int(value)
            if number >= 100:
                self.env.cancel_work(str(number - 100))
            else:
                self.env.deliver("output")
                self.env.work(str(number), JOBS[number])

    def on_done(self, key: Any, result: Any) -> None:
        self.done.append((key, result, self.env.now))


JOBS: list[Any] = [
    Build("a"),
    Build("b", 2),
    Build("x", 2, ordered=False),
    Build("never", 0),
    Mine(0.25),
    Mine(0.5),
    object(),
]


class Stage:
    """One node; ``ask`` makes its core ask for jobs in one step."""

    def __init__(self) -> None:
        self.world = World(Trial(Asking, Site(), Options(nodes=1), mix=Mix()))
        self.node = self.world.nodes[0]
        self.node.start()

    @property
    def core(self) -> Asking:
        core: Core = self.node.host.root
        assert isinstance(core, Asking)
        return core

    @property
    def app(self) -> Builder:
        app = self.node.app
        assert isinstance(app, Builder)
        return app

    def ask(self, *numbers: int) -> None:
        self.node.submit([b"%d" % number for number in numbers])
        self.node._wake()

    def run(self, seconds: float = 1.0) -> None:
        self.world.run_until(self.world.now + seconds)

    def ended(self) -> list[tuple[Any, Any]]:
        return [(key, result) for key, result, _ in self.core.done]


def test_jobs_of_the_app_take_their_first_step_behind_the_outputs_and_the_others_later() -> None:
    stage = Stage()
    stage.ask(0, 2)
    assert stage.app.did == ["a0 of 2", "x0 of 2"]
    assert stage.ended() == []
    stage.run()
    assert stage.ended() == [("2", "x"), ("0", "a")]
    begun = stage.node.clock.at(0.0)
    assert all(at > begun for _, _, at in stage.core.done), "it takes time"


def test_jobs_of_the_app_in_order_and_out_of_order() -> None:
    stage = Stage()
    stage.ask(0, 1, 2, 3)
    stage.run()
    order = [name[0] for name in stage.app.did]
    assert "".join(name for name in order if name != "x") == "aaabb"
    assert sorted(order[:4]) == ["a", "a", "x", "x"]
    assert stage.ended()[-1] == ("3", Failed("nothing to build"))
    assert len(stage.ended()) == 4


def test_jobs_that_are_cancelled_end_in_nothing() -> None:
    stage = Stage()
    stage.ask(0, 1, 2, 4)
    stage.ask(100, 102, 104, 104, 105)
    assert sorted(stage.app.closed) == ["a", "x"]
    stage.run()
    assert stage.ended() == [("1", "b")]


def test_a_job_takes_as_long_as_its_doer_says() -> None:
    stage = Stage()
    stage.ask(5, 4)
    stage.run(0.24)
    assert stage.ended() == []
    stage.run(0.02)
    assert stage.ended() == [("4", (0, 0.25))]
    stage.run()
    assert stage.ended() == [("4", (0, 0.25)), ("5", (0, 0.5))]


def test_a_key_may_have_two_jobs_and_cancelling_ends_both() -> None:
    stage = Stage()
    stage.ask(4, 4)
    stage.run()
    assert stage.ended() == [("4", (0, 0.25))] * 2
    stage.ask(4, 4)
    stage.run(0.1)
    stage.ask(104)
    stage.ask(4)
    stage.run()
    assert len(stage.ended()) == 3, "and not the one that came after"


def test_a_job_that_nobody_does_fails() -> None:
    stage = Stage()
    stage.ask(6)
    stage.run()
    assert stage.ended() == [("6", Failed("the simulator has no job object"))]


@pytest.mark.parametrize("number", [0, 4])
def test_jobs_end_with_the_process_and_wait_while_it_is_paused(number: int) -> None:
    stage = Stage()
    stage.ask(number)
    stage.node.pause()
    stage.run()
    assert stage.ended() == []
    stage.node.resume()
    stage.run()
    assert len(stage.ended()) == 1
    stage.ask(number)
    stage.node.crash()
    stage.node.start()
    stage.run()
    assert stage.ended() == []
    assert stage.app.did == []
