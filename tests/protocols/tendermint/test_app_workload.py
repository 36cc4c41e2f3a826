"""`quorate sim tendermint --workload app`: which apps seeds have, what is judged, and that planted bugs are seen."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from quorate.ledger.comet.abci.request_messages import RequestFinalizeBlock
from quorate.parts.crypto.keys import Symbolic
from quorate.protocols import REGISTRY
from quorate.protocols.tendermint.extension_liars import MisExtending
from quorate.protocols.tendermint.sync_liars import WrongChunks
from quorate.sim.checkers.base import Violation
from quorate.sim.options import OptionsError
from quorate.trials.abci.extending import ExtendingSubject
from quorate.trials.abci.forms import app_subject
from quorate.trials.abci.one_history import KEPT_ALL, TOLD_ALL, BlockSays, OneHistory
from quorate.trials.abci.subject import AppSubject
from quorate.trials.abci.syncing import SyncSubject
from quorate.trials.campaign import Task, run_task, trial_of
from quorate.trials.protocols import APP, adversary_of, equipment_of, mutants_of

from tests.cli.sim_command import call

TASK = Task(protocol="tendermint", seed=0, nodes=4, workload=APP, duration_s=3.0)


def test_the_command_runs_it() -> None:
    options = ("--nodes", "4", "--workload", "app", "--seed", "2", "--duration-s", "1", "--json")
    code, out, errors = call("tendermint", *options)
    assert code == 0, errors
    assert '"FinalizeBlock":' in out


@pytest.mark.parametrize("protocol", [name for name, entry in REGISTRY.items() if entry.app_core is None])
def test_a_protocol_without_apps_refuses_it(protocol: str) -> None:
    with pytest.raises(OptionsError, match=f"{protocol} drives no ABCI apps: choose another --workload, or tendermint"):
        trial_of(Task(protocol=protocol, seed=0, workload=APP))
    assert call(protocol, "--workload", "app")[0] == 2


def test_a_mutant_of_the_other_workload_is_not_known() -> None:
    assert call("tendermint", "--mutant", "replays-nothing")[0] == 2
    assert call("tendermint", "--workload", "app", "--mutant", "no-lock")[0] == 2


def test_seeds_have_all_kinds_of_apps() -> None:
    scheme = Symbolic(range(4), b"0", "c")
    found = [app_subject(seed, (), scheme) for seed in range(40)]
    extending = [subject for subject in found if isinstance(subject, ExtendingSubject)]
    plain = [subject for subject in found if not isinstance(subject, ExtendingSubject)]
    assert {subject.enabled for subject in extending} == {1, 6}
    assert {subject.attack is None for subject in plain} == {True, False}
    assert isinstance(app_subject(0, ("snapshots",), scheme), SyncSubject)


def test_all_liars_about_apps_are_among_them() -> None:
    _, names = adversary_of("tendermint", "all", APP)
    assert {"flooding", "slandering", "misextending", "stripping", "wrong-chunks", "false-snapshots"} <= set(names)
    assert len(set(names)) == len(names)


def test_no_liar_is_drawn_that_has_nothing_to_lie_about() -> None:
    liars = {type(trial.subject): set(trial.liars) for trial in (trial_of(replace(TASK, seed=s)) for s in range(20))}
    assert {AppSubject, ExtendingSubject, SyncSubject} == set(liars)
    assert not liars[AppSubject] & {MisExtending, WrongChunks}
    assert liars[ExtendingSubject] & {MisExtending, WrongChunks} == {MisExtending}
    assert liars[SyncSubject] & {MisExtending, WrongChunks} == {WrongChunks}


def test_mutants_of_apps_have_names_of_their_own() -> None:
    names = [mutant.name for mutant in (*equipment_of("tendermint").mutants, *equipment_of("tendermint", APP).mutants)]
    assert len(set(names)) == len(names)
    assert "serial-twice" not in {mutant.name for mutant in mutants_of("tendermint", APP)}, "clients are others"


def history(*txs: bytes) -> OneHistory:
    made = OneHistory()
    made.told, made.pairs = [BlockSays(txs, ())], dict(tx.split(b"=") for tx in txs)
    return made


def test_an_app_that_misses_a_transaction_is_seen() -> None:
    made = history(b"a=1", b"b=2")
    made.check_kept(0, {b"a": b"1", b"b": b"2"}, 2)
    with pytest.raises(Violation, match=r"node 0 has other values of \[b'b'\]") as missed:
        made.check_kept(0, {b"a": b"1"}, 2)
    assert missed.value.property == KEPT_ALL
    with pytest.raises(Violation, match="has 3 transactions, not 2"):
        made.check_kept(0, {b"a": b"1", b"b": b"2"}, 3)


def test_an_app_that_is_told_otherwise_is_seen() -> None:
    made = history(b"a=1")
    made.check_told(0, [RequestFinalizeBlock(height=1, txs=(b"a=1",)), RequestFinalizeBlock(height=2, txs=(b"b=1",))])
    with pytest.raises(Violation, match="node 0 was told otherwise of height 1") as told:
        made.check_told(0, [RequestFinalizeBlock(height=1, txs=(b"a=2",))])
    assert told.value.property == TOLD_ALL


# --- planted bugs ---


SEEDS_MAX = 40
FIRST = {"believes-proofs": 17, "counts-rejected": 26, "backwards": 12}
"""Rare ones, and a seed from which on they are soon seen."""
RARE = ("extends-again", "no-retry", "blames-no-sender")
"""None of 20 seeds, or of 80, shows them: they take a certain crash, or a liar and a node that syncs at one time.
``test_extension_campaign.py`` and ``test_sync_campaign.py`` have seeds for them, with faults of their own."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutant", [each.name for each in equipment_of("tendermint", APP).mutants if each.name not in RARE]
)
def test_planted_bugs_are_caught(mutant: str) -> None:
    first = FIRST.get(mutant, 0)
    for seed in range(first, first + SEEDS_MAX):
        task = replace(TASK, seed=seed, mutant=mutant, duration_s=5.0)
        if not run_task(task).holds:
            assert run_task(replace(task, mutant="")).holds, "it is the bug that is seen"
            return
    pytest.fail(f"none of {SEEDS_MAX} seeds from {first} on")
