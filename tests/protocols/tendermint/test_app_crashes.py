"""A crash after every write of a node with an app, whose app kept what it was asked to keep, or nothing: one chain."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from quorate.kernel import AppEnded, Job, Turn
from quorate.ledger.comet.abci.request_messages import RequestCommit
from quorate.machines.abci.kvstore import KVStoreApp
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.app_messages import AskApp, Outcome

from tests.protocols.tendermint.one_app_node import OneAppNode
from tests.protocols.tendermint.one_node import written

TXS = (b"a=1", b"b=2", b"a=3")


class Remembered(OneAppNode):
    """``kept``: how many writes were durable when the app was asked to keep a block, and its state then."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, KVStoreApp]] = [(0, KVStoreApp())]
        super().__init__()

    def answer(self, job: Job) -> Any:
        said = super().answer(job)
        if isinstance(job.work, AskApp) and isinstance(job.work.request, RequestCommit):
            assert isinstance(self.app, KVStoreApp)
            self.kept.append((len(writes_of(self.turns)), copy.deepcopy(self.app)))
        return said


def writes_of(turns: list[Turn]) -> list[list[Any]]:
    return [records for turn in turns if (records := written(turn))]


def a_life() -> Remembered:
    node = Remembered()
    for tx in TXS:
        node.submits(tx)
    return node


LIFE = a_life()
WRITES = writes_of(LIFE.turns)


def test_the_life_has_every_kind_of_record() -> None:
    kinds = {type(record).__name__ for write in WRITES for record in write}
    assert {"Begun", "Outcome", "Proposal", "Prevote", "Precommit", "Locked", "Decision"} <= kinds
    assert len(LIFE.kept) == 1 + len(LIFE.blocks) > len(TXS)


def restarted(writes: int, app: KVStoreApp, core: type[AppChain] = AppChain) -> OneAppNode:
    """With so many writes; it goes on with the same transactions as before."""
    node = OneAppNode(app, [record for write in WRITES[:writes] for record in write], core=core)
    for tx in (*TXS, b"c=4"):
        node.submits(tx)
    return node


@pytest.mark.parametrize("writes", range(len(WRITES) + 1))
@pytest.mark.parametrize("keeps", [True, False])
def test_after_every_write_a_crash_is_only_a_crash(writes: int, keeps: bool) -> None:
    """Of the app's states, the newest that it can have had at this time, and the one before."""
    states = [app for durable, app in LIFE.kept if durable <= writes][-2:] if keeps else [KVStoreApp()]
    decided = [record.block for write in WRITES[:writes] for record in write if type(record).__name__ == "Decision"]
    for state in states:
        node = restarted(writes, copy.deepcopy(state))
        assert [decision.block for decision in node.core.log.decisions][: len(decided)] == decided
        assert isinstance(node.app, KVStoreApp)
        assert node.app.pairs == {b"a": b"3", b"b": b"2", b"c": b"4"}
        assert node.app.height == len(node.blocks) == node.applied[-1].height


class Forgetful(AppChain):
    """Keeps nothing of what the app said."""

    def restore(self, record: Any) -> None:
        if not isinstance(record, Outcome):
            super().restore(record)


def test_without_its_records_it_would_not_go_on() -> None:
    """Or the test above would prove nothing."""
    ended = 0
    for durable, app in LIFE.kept[1:]:
        try:
            restarted(durable, copy.deepcopy(app), Forgetful)
        except AppEnded:
            ended += 1
    assert ended > 0
