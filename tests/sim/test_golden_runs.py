"""Runs are what they were: see golden_runs.py for when they may differ."""

import msgspec
import pytest

from quorate.kernel import Record, Send, Turn
from quorate.sim.digest import Digest

from tests.sim.golden_runs import FILE, line, tasks

RECORDED = FILE.read_text().splitlines()


@pytest.mark.parametrize("number", range(len(RECORDED)), ids=lambda number: RECORDED[number].partition(":")[0])
def test_a_run_is_what_it_was(number: int) -> None:
    assert line(list(tasks())[number]) == RECORDED[number]


def test_every_protocol_has_its_runs() -> None:
    assert len(RECORDED) == len(list(tasks())) >= 20


class Vote(msgspec.Struct, frozen=True, array_like=True, tag=True):
    term: int
    mask: int = 0


def digest(turn: Turn, *, now: float = 1.0, node: int = 0, inputs: int = 1) -> int:
    found = Digest()
    found.step(now, node, inputs, turn)
    return found.value


def test_one_changed_field_changes_the_digest() -> None:
    turns = [
        Turn(),
        Turn(sends=[Send((1, 2), (), Vote(7))]),
        Turn(sends=[Send((1, 2), (), Vote(8))]),
        Turn(sends=[Send((1, 3), (), Vote(7))]),
        Turn(sends=[Send((1, 2), (("slot", 1),), Vote(7))]),
        Turn(early=[Send((1, 2), (), Vote(7))]),
        Turn(records=[Record((), Vote(7))]),
        Turn(outputs=[Vote(7)]),
        Turn(sends=[Send((1, 2), (), Vote(7, 1 << 900))]),
        Turn(sends=[Send((1, 2), (), Vote(7, 1 << 901))]),
    ]
    digests = [digest(turn) for turn in turns]
    assert len(set(digests)) == len(turns)
    assert digest(turns[1]) == digests[1]
    assert digest(turns[1], now=2.0) != digests[1]
    assert digest(turns[1], node=256) != digest(turns[1], node=0) == digests[1]
    assert digest(turns[1], inputs=2) != digests[1]
