"""The rules of the Shell on real Nodes: each holds, and with the fault planted that breaks it, the same scene shows it.

A scene says what it found and what a node that keeps the rule would have shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from quorate.kernel import Shell
from quorate.runtime import node as module
from quorate.sim.shells import EmptyCheckpoint, JobsFirst, NoBarrier, OutOfOrder, Overtaking

from tests.runtime.held_nodes import Disks, Pair, Voter, VoterByInputs, Words, pair
from tests.runtime.servers import run, until

Scene: TypeAlias = Callable[[Pair], Awaitable[tuple[Any, Any]]]


async def promises_outlive_a_power_cut(nodes: Pair) -> tuple[Any, Any]:
    """What others heard rests on records; node 1 must know it still."""
    nodes.submit(b"vote 1")
    heard = nodes.core(2).heard
    await until(lambda: heard == [1])
    nodes.disks.hold(nodes.data(1))
    nodes.submit(b"vote 2")
    await nodes.mark()  # a vote that had left would have come before it
    await nodes.crash(1)
    await nodes.start(1)
    return heard, nodes.core(1).votes


async def a_turn_without_records_waits_for_earlier_ones(nodes: Pair) -> tuple[Any, Any]:
    """It tells of a vote that an earlier Turn recorded."""
    heard = nodes.core(2).heard
    nodes.disks.hold(nodes.data(1))
    nodes.submit(b"vote 1")
    await until(lambda: nodes.core(1).votes == [1])
    await until(lambda: not nodes.running[1]._turn_is_due)
    nodes.submit(b"tell")
    await until(lambda: not nodes.running[1]._turn_is_due)
    await nodes.mark()
    await nodes.crash(1)
    await nodes.start(1)
    return heard, nodes.core(1).votes


async def a_snapshot_has_what_its_turn_committed(nodes: Pair) -> tuple[Any, Any]:
    """The job comes in the Turn of the last entry that is in it."""
    for value in (b"put a", b"put b", b"snap c"):
        nodes.submit(value)
    await until(lambda: nodes.core(1).snapshot_index == 3)
    await nodes.stop(1)
    await nodes.start(1)
    await until(lambda: not nodes.running[1].is_loading)
    return nodes.app(1).words, [b"a", b"b", b"c"]


async def outputs_wait_for_a_snapshot_that_is_loaded(nodes: Pair) -> tuple[Any, Any]:
    """Two entries in the snapshot, one recovered behind it, one new while it is being loaded."""
    for value in (b"put a", b"snap b"):
        nodes.submit(value)
    await until(lambda: nodes.core(1).snapshot_index == 2)
    nodes.submit(b"put c")
    await until(lambda: nodes.app(1).words == [b"a", b"b", b"c"])
    await nodes.stop(1)
    app = Words()
    app.may_restore.clear()
    await nodes.start(1, app)
    nodes.submit(b"put d", b"vote 9")
    await until(lambda: 9 in nodes.core(2).heard)  # by then the entry is committed
    app.may_restore.set()
    await until(lambda: not nodes.running[1].is_loading)
    return app.words, [b"a", b"b", b"c", b"d"]


async def a_checkpoint_stands_for_the_journal(nodes: Pair) -> tuple[Any, Any]:
    """One is due at the first record after a snapshot, whatever the length of the journal."""
    journal = nodes.data(1) / "journal"
    before = sorted(path.name for path in journal.iterdir())
    for value in (b"vote 1", b"put a", b"snap b"):
        nodes.submit(value)
    await until(lambda: nodes.core(1).snapshot_index == 2)
    nodes.submit(b"vote 2")
    await until(lambda: 2 in nodes.core(2).heard and not nodes.running[1]._journal.has_checkpoint_under_way)
    replaced = sorted(path.name for path in journal.iterdir()) != before
    await nodes.stop(1)
    await nodes.start(1)
    core = nodes.core(1)
    found = (replaced, core.votes, core.entries, core.snapshot_index)
    return found, (not core.by_inputs, [1, 2], [b"a", b"b"], 2)


SCENES: dict[Scene, type[Shell]] = {
    promises_outlive_a_power_cut: NoBarrier,
    a_turn_without_records_waits_for_earlier_ones: OutOfOrder,
    a_snapshot_has_what_its_turn_committed: JobsFirst,
    outputs_wait_for_a_snapshot_that_is_loaded: Overtaking,
    a_checkpoint_stands_for_the_journal: EmptyCheckpoint,
}


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, Any]]:
    """Run a scene; what it found and what it should have."""
    monkeypatch.setattr(module, "CHECKPOINT_AFTER_BYTES", 0)

    def played(scene: Scene, shell: type[Shell] = Shell, core: type[Voter] = Voter) -> tuple[Any, Any]:
        async def main() -> tuple[Any, Any]:
            async with pair(tmp_path, Disks(monkeypatch), shell, core) as nodes:
                return await scene(nodes)

        found: tuple[Any, Any] = run(main())
        return found

    return played


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_the_rule_holds(play: Any, scene: Scene) -> None:
    found, expected = play(scene)
    assert found == expected


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_the_rule_holds_with_a_pause_after_all_that_goes_up(
    play: Any, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORK_S", 0.0)
    found, expected = play(scene)
    assert found == expected


@pytest.mark.parametrize(("scene", "shell"), SCENES.items(), ids=lambda each: each.__name__)
def test_a_planted_fault_shows(play: Any, scene: Scene, shell: type[Shell]) -> None:
    found, expected = play(scene, shell)
    assert found != expected


@pytest.mark.parametrize("waits_for", ["a disk", "a snapshot"])
def test_what_waited_goes_up_a_little_at_a_time(play: Any, waits_for: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(nodes: Pair) -> tuple[Any, Any]:
        monkeypatch.setattr(module, "WORK_S", 0.0)
        app, seen = nodes.app(1), [0]
        if waits_for == "a disk":
            nodes.disks.hold(nodes.data(1))
        else:
            nodes.submit(b"snap x")
            await until(lambda: nodes.core(1).snapshot_index == 1)
            await nodes.stop(1)
            app = Words()
            app.may_restore.clear()
            await nodes.start(1, app)
        nodes.submit(*(b"put %d" % number for number in range(100)))
        await nodes.mark()
        assert app.words == []
        nodes.disks.release(nodes.data(1))
        app.may_restore.set()
        while len(app.words) < 100:
            await asyncio.sleep(0)
            seen.append(len(app.words))
        return max(after - before for before, after in pairwise(seen)) <= 2, True  # a snapshot and the next

    found, expected = play(scene)
    assert found == expected


def test_without_a_barrier_no_turn_waits_for_another_either(play: Any) -> None:
    found, expected = play(a_turn_without_records_waits_for_earlier_ones, NoBarrier)
    assert found != expected


def test_a_journal_whose_inputs_are_the_state_is_not_replaced(play: Any) -> None:
    found, expected = play(a_checkpoint_stands_for_the_journal, core=VoterByInputs)
    assert found == expected


def test_a_checkpoint_that_replaces_inputs_shows(play: Any) -> None:
    found, expected = play(a_checkpoint_stands_for_the_journal, EmptyCheckpoint, VoterByInputs)
    assert found != expected
