"""State sync under faults and liars: apps have one history and one state, and planted bugs are seen."""

from typing import Any

import pytest

from quorate.ledger.comet.abci.request_messages import RequestApplySnapshotChunk, RequestOfferSnapshot
from quorate.ledger.comet.abci.response_messages import ResponseInfo
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.app_mutants import planted
from quorate.protocols.tendermint.candidates import Candidate
from quorate.protocols.tendermint.state_sync import StateSync
from quorate.protocols.tendermint.sync_liars import WrongChunks
from quorate.trials.abci.syncing import Checked, SyncSubject

from tests.protocols.tendermint.app_trial import core_of, held
from tests.protocols.tendermint.sync_trial import LIES, SYNC_LIES, Gullible, WrongState, run_synced

WRONG = {"byzantine": 1, "adversary": (WrongState.name,)}


def hold(seeds: range, make: type[Checked] = Checked, **options: Any) -> list[SyncSubject]:
    return held(seeds, lambda: SyncSubject(make), run_synced, **options)


def count(subjects: list[SyncSubject], kind: type) -> int:
    return sum(len(subject.calls(kind)) for subject in subjects)


def test_nodes_come_back_by_state_sync() -> None:
    subjects = hold(range(2, 5))
    assert count(subjects, RequestOfferSnapshot) > 0
    assert count(subjects, RequestApplySnapshotChunk) > 0


def test_and_where_a_node_lies_about_snapshots() -> None:
    subjects = hold(range(8, 10), byzantine=1, adversary=SYNC_LIES)
    assert count(subjects, RequestOfferSnapshot) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "make", "options"),
    [
        (range(40), Checked, {}),
        (range(30), Checked, {"byzantine": 1, "adversary": SYNC_LIES}),
        (range(20), Checked, {"byzantine": 1, "adversary": LIES}),
        (range(40), Gullible, WRONG),
        (range(12), Checked, {"nodes": 7, "byzantine": 2, "adversary": LIES}),
    ],
    ids=["crashes", "lies about snapshots", "any lies", "wrong states", "two liars of seven"],
)
def test_many_seeds(seeds: range, make: type[Checked], options: dict[str, Any]) -> None:
    assert count(hold(seeds, make, **options), RequestOfferSnapshot) > 0


# --- planted bugs ---


class NoHash(StateSync):
    """The app's word of its hash is not compared."""

    def is_right(self, candidate: Candidate, info: ResponseInfo) -> bool:
        return True


CHUNKS: dict[str, Any] = {"byzantine": 1, "adversary": (WrongChunks.name,)}


@pytest.mark.parametrize(
    ("core", "make", "options", "seeds", "text"),
    [
        (planted(sync_class=NoHash), Gullible, WRONG, (2, 4), "state sync has not ended"),
        (core_of("blames-no-sender"), Checked, CHUNKS, (189, 241), "which the app rejected"),
        (core_of("backwards"), Checked, {}, (2,), "comes where"),
        (core_of("no-retry"), Checked, CHUNKS, (2, 30), "comes where"),
    ],
    ids=["hash", "blame", "order", "retry"],
)
def test_planted_bugs_are_seen(
    core: type[AppChain], make: type[Checked], options: dict[str, Any], seeds: tuple[int, ...], text: str
) -> None:
    outcomes = [run_synced(seed, SyncSubject(make), core, **options) for seed in seeds]
    texts = [outcome.text for outcome in outcomes if not outcome.holds]
    assert texts
    assert any(text in found for found in texts), texts
