"""Recovery by inputs in a World: nodes crash, journals are replaced by checkpoints, and what comes back is what was.

The state after each frame of a journal is kept aside. After a crash, what is restored must be the state after the last
frame that survived it.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from quorate.kernel import Host, Record, Shell
from quorate.sim.chance import streams
from quorate.sim.options import Options
from quorate.sim.shells import EmptyCheckpoint
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.world import World

from tests.kernel.test_replay import child, program, state_of
from tests.kernel.trees import Deliver, Desk, Hand, Later, Office, Say, Spawn
from tests.sim.worlds import NoApp, NoSubject

MIX = Mix(sync_s=0.02, delay_s_min=0.001, delay_s_mean=0.01, duplication=0.1, frames_per_checkpoint=6)
ROOM = ("desk", 0)


class Director(Office):
    """Makes a program of each number that it is submitted, runs it, and sends one to the desks of the others."""

    def submit(self, values: Sequence[bytes]) -> None:
        for value in values:
            rng = Random(int(value))
            self._run(("submit", value), program(rng))
            self.env.broadcast(Say(1, (Spawn(child(rng), program(rng)), Hand(ROOM, program(rng)))))


class ChattyDesk(Desk):
    """Tells the desks of the others what it was told, now and when it settles."""

    def on_handed(self, value: Any) -> None:
        super().on_handed(value)
        self.env.broadcast(Say(2, (Later(Say(3, (Deliver(Say(4)),))),)))


class Chatty(Director):
    kinds = {**Director.kinds, "desk": ChattyDesk}


def frames_of(node: Any) -> list[Sequence[Record]]:
    return [*node.disk.journal, *(records for _, records, _ in (*node.disk._syncing, *node.disk._queued))]


class Stage:
    """One World, whose first node crashes; by the identity of a frame, the state after it."""

    def __init__(self, seed: int, shell: type[Shell], *, by_inputs: bool) -> None:
        self.states: dict[int, Any] = {}
        self.frames: list[Any] = []  # held, so that no two have one identity
        stage = self

        class Watched(shell):  # type: ignore[valid-type,misc]
            def write(self, records: Sequence[Record]) -> int:
                sequence: int = super().write(records)
                if self._machine.id == 0:
                    frame = frames_of(self._machine)[-1]
                    stage.frames.append(frame)
                    stage.states[id(frame)] = state_of(self.host)
                return sequence

        self.options = Options(nodes=6, seed=seed, by_inputs=by_inputs)
        self.world = World(Trial(Chatty, NoSubject(), self.options, mix=MIX, shell=Watched))
        self.rng = Random(f"{seed}/test")
        for node in self.world.nodes:
            node.start()

    def run(self, requests: int = 6) -> None:
        """Some programs for each node."""
        for _ in range(requests):
            for node in self.world.nodes:
                app = node.app
                assert isinstance(app, NoApp)
                node.request(None, self.rng.randrange(10_000))
            self.world.run_until(self.world.now + self.rng.random() * 0.05)

    def crash(self) -> bool:
        """Whether what is restored is what it should be; then it goes on from there."""
        node = self.world.nodes[0]
        node.crash()
        chance = streams(f"{node._seed}/core/0" if self.options.by_inputs else "another life")
        host = Host(self.world.make, 0, node.peers, chance, by_inputs=self.options.by_inputs)
        try:
            for frame in node.disk.journal:
                for record in frame:
                    host.restore(record)
        except NotImplementedError:  # inputs of a subtree whose parent knows of none
            return False
        expected = self.states[id(node.disk.journal[-1])] if node.disk.journal else {}
        if state_of(host) != expected:
            return False
        self.world.run_until(self.world.now + 0.05)
        node.start()
        return True


def lives(seed: int, shell: type[Shell], *, by_inputs: bool) -> tuple[bool, int]:
    """Whether a node came back as it was from each of five lives, and how many checkpoints there were."""
    stage = Stage(seed, shell, by_inputs=by_inputs)
    came_back = True
    for _ in range(5):
        stage.run()
        came_back = came_back and stage.crash()
    return came_back, stage.world.nodes[0].disk.checkpoints


@pytest.mark.parametrize("seeds", [range(1), pytest.param(range(1, 6), marks=pytest.mark.slow)], ids=["one", "more"])
@pytest.mark.parametrize("by_inputs", [False, True], ids=["subtrees", "whole hosts"])
def test_what_comes_back_is_what_was_durable(by_inputs: bool, seeds: range) -> None:
    checkpoints = 0
    for seed in seeds:
        came_back, replaced = lives(seed, Shell, by_inputs=by_inputs)
        assert came_back
        checkpoints += replaced
    assert (checkpoints > 5) is not by_inputs, "a journal whose inputs are the state is never replaced"


@pytest.mark.parametrize("by_inputs", [False, True], ids=["subtrees", "whole hosts"])
def test_empty_checkpoints_are_seen(by_inputs: bool) -> None:
    assert not all(lives(seed, EmptyCheckpoint, by_inputs=by_inputs)[0] for seed in range(6))
