"""ServerState alone: each change is recorded in the call that makes it, and its records give it back."""

from typing import Any

import pytest

from quorate.parts.log.replicated import Restored
from quorate.protocols.raft.messages import Entries, HardState, Snapshotted
from quorate.protocols.raft.state import ServerState

from tests.protocols.alone import Alone
from tests.protocols.raft.raft_nodes import CONFIG, effects, entry

A, B, C = entry(1, "a"), entry(1, "b"), entry(2, "c")


def alone(*records: HardState | Entries | Snapshotted) -> Alone[ServerState]:
    made = Alone(lambda env: ServerState(env, CONFIG))
    for record in records:
        made.part.restore(record)
    return made


def durable(state: ServerState) -> Any:
    log = state.log
    entries = log.slice(log.base_index + 1, log.last_index)
    return state.term, state.vote, state.snapshot_index, state.snapshot_term, log.base_index, log.base_term, entries


def test_a_pledge_is_recorded() -> None:
    made = alone()
    assert made.do(made.part.pledge, 3, 2) == effects(records=[HardState(3, 2)])
    assert (made.part.term, made.part.vote) == (3, 2)


def test_what_is_written_replaces_what_stood_there_and_after() -> None:
    made = alone(Entries(1, [A, B, B]))
    assert made.do(made.part.write, 2, [C]) == effects(records=[Entries(2, [C])])
    assert made.part.log.slice(1, made.part.log.last_index) == [A, C]


def test_commitment_never_goes_back() -> None:
    state = alone(Entries(1, [A, B])).part
    state.commit(2)
    state.commit(1)
    assert state.commit_index == 2


def test_compaction_keeps_a_tail_and_an_installed_snapshot_nothing_that_it_contradicts() -> None:
    made = alone(Entries(1, [A, B, C]))
    assert made.do(made.part.compact, 2, 1, 1, 1) == effects(records=[Snapshotted(2, 1, 1, 1)])
    assert made.part.log.slice(2, 3) == [B, C]
    assert made.do(made.part.install, 5, 4) == effects(records=[Snapshotted(5, 4, 5, 4)], outputs=[Restored(5, 4)])
    assert (made.part.commit_index, made.part.delivered_index, made.part.log.last_index) == (5, 5, 5)


def test_records_and_checkpoints_give_the_state_back() -> None:
    made, records = alone(), []
    for call, args in [
        (made.part.pledge, (1, 1)),
        (made.part.write, (1, [A, B])),
        (made.part.pledge, (2, None)),
        (made.part.write, (2, [C, C])),
        (made.part.compact, (2, 2, 1, 1)),
    ]:
        records += [record.value for record in made.do(call, *args).records]
    assert durable(alone(*records).part) == durable(made.part)
    assert durable(alone(*made.part.checkpoint()).part) == durable(made.part)


def test_a_hole_in_the_journal_is_an_error() -> None:
    with pytest.raises(ValueError, match="records are missing"):
        alone(Entries(3, [A]))
    short = alone(Entries(1, [A]), Snapshotted(1, 1, 0, 0))
    short.part.snapshot_index = 4
    with pytest.raises(ValueError, match="its log ends at 1"):
        short.part.start()
