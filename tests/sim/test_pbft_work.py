"""Limits of what nodes of PBFT make each other do: their checker, planted bugs, and the seeds that catch these."""

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import Core, Job, Send, Turn
from quorate.parts.crypto.keys import Signed, VerifyBatch
from quorate.protocols.pbft.messages import VIEW_CHANGE, BatchOf, LogOf, ViewChange
from quorate.protocols.pbft.transfer_liars import Greedy
from quorate.protocols.pbft.work_invariants import PbftWork
from quorate.service.sessions import ESTABLISHED_USES
from quorate.service.signed import SignedReplica
from quorate.sim.adversary.liar import Means
from quorate.sim.checkers.base import Violation
from quorate.sim.run import RunOutcome
from quorate.trials import campaign
from quorate.trials.campaign import Task
from quorate.trials.session_checker import EVERY_STEPS, KEPT, SessionsLast
from quorate.trials.subjects import RegisterMachine

from tests.protocols.pbft.pbft_nodes import Node, X, Y, stable, view_change
from tests.sim.liars import Dice

# --- the checker ---


def core(now: float = 0.0, **changes: ViewChange) -> SimpleNamespace:
    """What the checker reads of a core, with view-changes by node."""
    return SimpleNamespace(
        view=SimpleNamespace(changes={int(name[1:]): change for name, change in changes.items()}),
        env=SimpleNamespace(now=now),
        config=SimpleNamespace(beat_s=0.5, batch_bytes_max=100),
    )


def given(change: ViewChange) -> Turn:
    """A Turn that gives its signature to a job."""
    claim = Signed(1, VIEW_CHANGE, b"statement", change.signature)
    return Turn(jobs=[Job((), ("prove", 1), VerifyBatch((claim,)))])


def answer(size: int, to: int = 1) -> Turn:
    """A Turn that answers with so many bytes."""
    return Turn(sends=[Send((to,), (), BatchOf((b"x" * size,)))])


@pytest.fixture
def checker() -> PbftWork:
    made = PbftWork()
    made.started(0, core())
    return made


def test_a_view_change_is_kept_that_a_job_has_checked(checker: PbftWork) -> None:
    change = view_change(1, 1)
    checker.acted(0, core(), given(change))
    checker.acted(0, core(n0=view_change(2, 1), n1=change), Turn())


def test_a_view_change_that_no_job_has_checked(checker: PbftWork) -> None:
    change = view_change(1, 1)
    with pytest.raises(
        Violation, match="checked by jobs: node 0 keeps a view-change of node 1 that no job has checked"
    ):
        checker.acted(0, core(n1=change), Turn())
    checker.acted(0, core(), given(change))
    checker.started(0, core())
    with pytest.raises(Violation, match="checked by jobs"):
        checker.acted(0, core(n1=change), Turn())


def test_answers_within_two_allowances_or_one_answer_of_any_size(checker: PbftWork) -> None:
    for _ in range(8):
        checker.acted(0, core(), answer(100))
    checker.acted(0, core(), answer(800, to=2))
    checker.acted(0, core(0.5), answer(5000))
    checker.acted(0, core(1.0), answer(800))


def test_more_than_two_allowances_within_a_beat(checker: PbftWork) -> None:
    for _ in range(8):
        checker.acted(0, core(), answer(100))
    with pytest.raises(Violation, match=r"bounded: node 0 answers node 1 with 801 bytes within 0.5 s, more than 800"):
        checker.acted(0, core(0.4), answer(1))
    log = LogOf(0, (bytes(32),) * 2, stable((X,), (Y,)))
    with pytest.raises(Violation, match="answers node 1"):
        checker.acted(0, core(0.45), Turn(sends=[Send((1,), (), log)]))


# --- sessions ---


class Nodes:
    """What that checker asks of a run: the App of node 0."""

    def __init__(self, app: SignedReplica) -> None:
        self.nodes = [SimpleNamespace(app=app)]


def test_an_established_session_that_goes_without_its_owner() -> None:
    app = SignedReplica(RegisterMachine(), sessions_max=20)
    checker = SessionsLast(frozenset([b"mine"]))
    checker.watch(Nodes(app))

    def look() -> None:
        for _ in range(EVERY_STEPS):
            checker.stepped(0, Core)

    for owner, session in ((b"mine", 1), (b"theirs", 2), (b"mine", 3)):
        app.sessions.open(session, owner, session)
        for entry in range(ESTABLISHED_USES if session != 3 else 1):
            app.sessions.use(session, owner, entry + session * 100)
    look()
    for session in (2, 3):
        app.sessions.close(session, b"theirs" if session == 2 else b"mine")
    look()  # another's, and one that was not established
    app.sessions.close(1, b"mine")
    with pytest.raises(Violation, match="kept: node 0 let session 1 expire, which 16 requests had used"):
        look()
    checker.started(0, Core)
    look()


# --- the liar that asks for more ---


def test_a_greedy_node_asks_for_batches_that_its_victim_has() -> None:
    node, victim = Node(), Node()
    for each in (node, victim):
        each.order(1, X)
        each.order(2, Y)
    means = Means(2, (2, 3), Dice())  # type: ignore[arg-type]
    means.core, means.now = node.core, 1.0
    liar = Greedy(means)
    sends = liar.lie(Turn()).sends
    assert len(sends) == Greedy.ASKED == means.told["greedy"]
    assert list(liar.lie(Turn()).sends) == [], "a moment later not yet"
    answers = [send for each in sends for send in victim.on(3, each.message).sends]
    assert answers
    assert all(isinstance(send.message, BatchOf) for send in answers)


# --- planted bugs ---

CAUGHT = [
    ("renews-patience", 5, 15, "all", "lying-source", 10.0),
    ("answers-all", 4, 0, "common", "greedy", 5.0),
]
"""Mutant, nodes, seed, faults, the liars that catch it, and for how long. It holds with liars that say nothing. Each
rule has a test of one step: ``test_epochs.py``, ``test_lying_sources.py``, ``test_catching_up_alone.py``."""


def run(mutant: str, nodes: int, seed: int, faults: str, adversary: str, duration_s: float) -> RunOutcome:
    more: dict[str, Any] = {"nodes": nodes, "faults": faults, "adversary": adversary, "duration_s": duration_s}
    joins = nodes == 5
    return campaign.run_task(Task(protocol="pbft", seed=seed, mutant=mutant, byzantine=1, joins=joins, **more))


def check_cause(mutant: str, nodes: int, seed: int, faults: str, adversary: str, duration_s: float) -> None:
    """It takes both, the bug and the liar."""
    for what, liars in (("", adversary), (mutant, "silent")):
        outcome = run(what, nodes, seed, faults, liars, duration_s)
        assert outcome.holds, outcome.text


@pytest.mark.parametrize(("mutant", "nodes", "seed", "faults", "adversary", "duration_s"), CAUGHT)
def test_a_planted_bug_is_caught_by_the_liar_that_shows_it(
    mutant: str, nodes: int, seed: int, faults: str, adversary: str, duration_s: float
) -> None:
    assert not run(mutant, nodes, seed, faults, adversary, duration_s).holds
    check_cause(mutant, nodes, seed, faults, adversary, duration_s)


@pytest.mark.slow
def test_running_on_in_an_old_epoch_is_caught_by_early_proofs() -> None:
    """By one seed of sixty or so: whatever changes a schedule changes which. From 0 on these were 47, 150 and 193."""
    for seed in range(40, 340):
        case = ("runs-on", 5, seed, "all", "early-proofs", 10.0)
        if not run(*case).holds:
            check_cause(*case)
            return
    pytest.fail("none of 300 seeds from 40 on")


def test_view_changes_that_the_core_checks_itself_are_caught() -> None:
    """Without any liar: by the first view that ends."""
    task = Task(protocol="pbft", nodes=4, seed=1, faults="common", duration_s=5.0, mutant="checks-in-place")
    assert campaign.run_task(task).violated == "view-changes are checked by jobs"


@pytest.mark.parametrize("protocol", ["pbft", "vote"])
def test_sessions_that_made_up_keys_push_out_are_missed(protocol: str) -> None:
    task = Task(protocol=protocol, nodes=4, seed=58, faults="common,clients")
    healthy = campaign.run_task(task)
    assert healthy.holds, healthy.text
    assert healthy.counts["sessions of made-up keys"] > 500
    assert campaign.run_task(replace(task, mutant="expires-anybody")).violated == KEPT
    assert campaign.run_task(replace(task, mutant="expires-anybody", faults="common")).holds
