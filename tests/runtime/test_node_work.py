"""Jobs of the App on a real Node: a step at a time between everything else, in order, and ended with the node."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.kernel import Env, Failed, Key
from quorate.kernel.app import Steps

from tests.runtime.held_nodes import Disks, Pair, Voter, Words, pair
from tests.runtime.servers import run, until


class Build(msgspec.Struct, frozen=True):
    """A job: it ends when the App says so, or at once in a failure without a name."""

    name: str


class Builder(Words):
    """Steps until it may end."""

    works = (Build,)

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[tuple[str, int]] = []
        self.closed: list[str] = []
        self.may_end: set[str] = set()
        self.steps = 0

    def work(self, job: Any) -> Steps:
        self.begun.append((job.name, len(self.words)))
        if not job.name:
            raise ValueError("it has no name")
        try:
            while job.name not in self.may_end:
                self.steps += 1
                yield
        except GeneratorExit:
            self.closed.append(job.name)
            raise
        return len(job.name)


class Asking(Voter):
    """``build a`` and ``cancel a``, beside what a Voter does; ``built`` has what came of them."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.built: list[tuple[Key, Any]] = []

    def submit(self, values: Sequence[bytes]) -> None:
        for value in values:
            verb, _, name = value.decode().partition(" ")
            if verb == "build":
                self.env.work(name, Build(name))
            elif verb == "cancel":
                self.env.cancel_work(name)
            else:
                super().submit([value])

    def on_done(self, key: Key, result: Any) -> None:
        self.built.append((key, result))


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a scene with a pair of nodes, the first one's core and App."""

    def played(scene: Any) -> None:
        async def main() -> None:
            async with pair(tmp_path, Disks(monkeypatch), core=Asking, app=Builder) as nodes:
                core, app = nodes.core(1), nodes.app(1)
                assert isinstance(core, Asking)
                assert isinstance(app, Builder)
                await scene(nodes, core, app)

        run(main())

    return played


def test_a_job_begins_behind_the_outputs_and_the_node_goes_on_meanwhile(play: Any) -> None:
    async def scene(nodes: Pair, core: Asking, app: Builder) -> None:
        nodes.submit(b"put x", b"build a", b"put y")
        await until(lambda: app.begun)
        assert app.begun == [("a", 2)], "when what its turn committed was applied"
        await nodes.mark()
        nodes.submit(b"vote 1")
        await until(lambda: nodes.core(2).heard == [1])
        steps = app.steps
        await until(lambda: app.steps > steps)
        assert core.built == []
        app.may_end.add("a")
        await until(lambda: core.built == [("a", 1)])

    play(scene)


def test_a_job_waits_for_the_records_of_its_turn(play: Any) -> None:
    async def scene(nodes: Pair, core: Asking, app: Builder) -> None:
        nodes.disks.hold(nodes.data(1))
        nodes.submit(b"vote 1", b"build a")
        await nodes.mark()
        assert app.begun == []
        nodes.disks.release(nodes.data(1))
        await until(lambda: app.begun == [("a", 0)])

    play(scene)


def test_jobs_in_order_fail_end_and_are_cancelled(play: Any) -> None:
    async def scene(nodes: Pair, core: Asking, app: Builder) -> None:
        app.may_end.update(("b", "dd"))
        nodes.submit(b"build a", b"build b", b"build c", b"build dd", b"build ")
        await until(lambda: app.steps > 3)
        assert [name for name, _ in app.begun] == ["a"]
        nodes.submit(b"cancel c")
        nodes.submit(b"cancel a")
        await until(lambda: len(core.built) == 3)
        assert core.built == [("b", 1), ("dd", 2), ("", Failed("it has no name"))]
        assert app.closed == ["a"]
        assert [name for name, _ in app.begun] == ["a", "b", "dd", ""]

    play(scene)


def test_a_node_that_stops_closes_what_is_under_way(play: Any) -> None:
    async def scene(nodes: Pair, core: Asking, app: Builder) -> None:
        nodes.submit(b"build a", b"build b")
        await until(lambda: app.steps > 3)
        await nodes.stop(1)
        assert app.closed == ["a"]
        assert core.built == []

    play(scene)


def test_another_error_of_a_job_ends_the_node(play: Any) -> None:
    async def scene(nodes: Pair, core: Asking, app: Builder) -> None:
        def broken(job: Any) -> Steps:
            yield
            raise KeyError("ours")

        app.work = broken  # type: ignore[method-assign]
        nodes.submit(b"build a")
        with pytest.raises(KeyError):
            await nodes.running[1].wait()

    play(scene)
