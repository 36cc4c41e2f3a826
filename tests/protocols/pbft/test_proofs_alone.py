"""ProofChecks alone: what is checked off the loop, in which order, and how much of it there may be."""

import msgspec
import pytest

from quorate.kernel import Failed, Job, Received, Turn
from quorate.parts.crypto.keys import BATCH_ITEMS_MAX, Keyring, Keys, Signed, Verified, VerifyBatch
from quorate.protocols.pbft.group import EPOCH_SHIFT, NO_CHECKPOINT, Group
from quorate.protocols.pbft.messages import (
    CHECKPOINT,
    PREPARE,
    ViewChange,
    checkpoint_statement,
    digest_of,
    order_statement,
)
from quorate.protocols.pbft.proofs import PROVE, CheckedProof

from tests.protocols.pbft.alone import Alone
from tests.protocols.pbft.pbft_nodes import (
    FOUR,
    SCHEME,
    Node,
    X,
    Y,
    new_view,
    pre_prepare,
    prepared,
    signed,
    view_change,
)

CLAIM = Signed(3, "context", b"message", b"signature")
ALL = Verified((1 << BATCH_ITEMS_MAX) - 1)


def ask(alone: Alone, sender: int, view: int, claims: int = 1) -> list[int]:
    """Have a view-change checked, with so many claims; the numbers of the jobs."""
    turn = alone.do(alone.proofs.ask, sender, view_change(sender, view), [CLAIM] * claims)
    return [job.key[1] for job in turn.jobs]


def done(alone: Alone, number: int, result: object = ALL) -> tuple[CheckedProof | None, Turn]:
    turn = alone.do(alone.proofs.done, number, result)
    return alone.returned, turn


def test_a_message_is_proven_when_all_of_its_jobs_have_ended() -> None:
    alone = Alone()
    turn = alone.do(alone.proofs.ask, 3, change := view_change(3, 1), [CLAIM] * (2 * BATCH_ITEMS_MAX + 1))
    assert [(job.key, len(job.work.items)) for job in turn.jobs] == [
        ((PROVE, 1), 63),
        ((PROVE, 2), 63),
        ((PROVE, 3), 1),
    ]
    assert [done(alone, number)[0] for number in (3, 1, 2)] == [None, None, CheckedProof(3, change, None)]
    assert len(alone.proofs) == 0
    assert done(alone, 2)[0] is None, "nobody asked"


@pytest.mark.parametrize(("number", "bit"), [(1, 0), (1, 62), (2, 0), (2, 36)])
def test_the_first_claim_that_does_not_hold_is_told(number: int, bit: int) -> None:
    alone = Alone()
    ask(alone, 3, 1, claims=100)
    results = {1: ALL, 2: Verified((1 << 37) - 1)}
    results[number] = Verified(results[number].mask & ~(1 << bit))
    assert done(alone, 2, results[2])[0] is None
    proven, _ = done(alone, 1, results[1])
    assert proven is not None
    assert proven.wrong == (number - 1) * BATCH_ITEMS_MAX + bit


def test_of_one_sender_one_is_checked_at_a_time_and_then_the_newest() -> None:
    alone = Alone()
    (first,) = ask(alone, 3, 1)
    assert ask(alone, 3, 1) == [], "it is the same"
    for view in (2, 3, 4):
        assert ask(alone, 3, view) == []
    (other,) = ask(alone, 4, 9)
    assert len(alone.proofs) == 3, "two of one sender, one of another"
    proven, turn = done(alone, first)
    assert proven == CheckedProof(3, view_change(3, 1), None)
    ((_, number),) = [job.key for job in turn.jobs]
    assert done(alone, number)[0] == CheckedProof(3, view_change(3, 4), None)
    assert done(alone, other)[0] == CheckedProof(4, view_change(4, 9), None)


def test_a_job_that_fails_says_nothing_about_the_message() -> None:
    alone = Alone()
    one, two = ask(alone, 3, 1, claims=64)
    assert ask(alone, 3, 2) == []
    assert done(alone, one, Failed("no thread"))[0] is None
    proven, turn = done(alone, two, Verified(0))
    assert (proven, len(turn.jobs)) == (None, 1), "the next one has its turn"


# --- in a node ---


def step(node: Node, *inputs: object) -> tuple[Turn, list[Job]]:
    """One step, in which jobs do not end."""
    turn = node.host.step(inputs, node.now)  # type: ignore[arg-type]
    return turn, [job for job in turn.jobs if isinstance(job.work, VerifyBatch)]


def test_a_node_goes_on_while_a_view_change_is_checked() -> None:
    node = Node()
    turn, jobs = step(node, Received(3, view_change(3, 1, prepared(1, X))))
    assert [len(job.work.items) for job in jobs] == [1 + 3], "its own signature and those of the order"
    assert node.core.view.changes == {}, "it counts once it is proven"
    node.order(1, Y)
    assert node.core.history.executed == 1
    node.step(*[node._check(job) for job in jobs])
    assert set(node.core.view.changes) == {3}
    assert turn.blames == ()


def test_a_view_change_that_is_over_when_it_was_checked_counts_nothing() -> None:
    node = Node()
    _, jobs = step(node, Received(3, view_change(3, 1)))
    node.enter(2)
    node.step(*[node._check(job) for job in jobs])
    assert node.core.view.changes == {}


def test_a_new_view_is_checked_without_what_is_known_and_its_messages_are_kept() -> None:
    node = Node()
    changes: dict[int, ViewChange] = {other: view_change(other, 2, prepared(1, X)) for other in (1, 3, 4)}
    node.on(4, changes[4])
    turn, jobs = step(node, Received(3, new_view(changes, (X,))))
    (job,) = jobs
    assert len(job.work.items) == 1 + 2 * 4, "one proposal, and the view-changes of 1 and 3"
    assert turn.records == ()
    node.on(3, pre_prepare(2, Y, view=2))
    assert node.core.view.number == 0
    node.step(node._check(job))
    assert (node.core.view.number, node.core.view.is_changing) == (2, False)
    assert sorted(node.core.log.accepted) == [1, 2], "what came for the view meanwhile is taken then"


def test_nobody_s_signature_is_checked_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """But that of the primary, which says who is to blame for the rest."""
    node = Node()
    checked: list[str] = []
    verify = Keyring.verify

    def counting(self: Keyring, signer: int | bytes, context: str, message: bytes, signature: bytes) -> bool:
        checked.append(context)
        return verify(self, signer, context, message, signature)

    monkeypatch.setattr(Keyring, "verify", counting)
    orders = [prepared(number, X) for number in range(1, 5)]
    step(node, Received(3, view_change(3, 2, *orders)))
    step(node, Received(3, new_view({n: view_change(n, 2, *orders) for n in (1, 3, 4)}, *[(X,)] * 4)))
    assert checked == ["pbft new-view"]


# --- where members change ---

FOUNDERS_KEYRING = Keyring({node: SCHEME.keyring()._verifiers[node] for node in FOUR}, SCHEME.keyring()._stranger)
"""All that the jobs of a node know that was there first."""
SECOND = 1 << EPOCH_SHIFT
"""The first view of the second epoch; its primary is node 1."""


def second_epoch(alone: Alone) -> None:
    """1, 2, 3 and 5 vote; 5 has joined."""
    keys = Keys(SCHEME.signer(2), FOUNDERS_KEYRING).knowing(5, SCHEME.keyring().public(5))
    alone.view.begin_epoch(Group((1, 2, 3, 5), keys, epoch=1, began_at=4, past_members=FOUR))


def judged(alone: Alone, turn: Turn) -> list[tuple[int, str]]:
    """Whom the node blames when the jobs of this Turn have ended, each done with the keys of the founders."""
    blames = [*turn.blames]
    for job in turn.jobs:
        blames += alone.do(alone.proven, job, FOUNDERS_KEYRING).blames
    return [(blame.node, blame.why) for blame in blames]


def test_a_member_that_joined_signs_what_every_job_can_check() -> None:
    """Its view-change, its vote for the checkpoint that it rests on, and for an order."""
    alone = Alone()
    second_epoch(alone)
    checkpoint = signed(CHECKPOINT, checkpoint_statement(6, 6, bytes(32)), (1, 3, 5))
    order = signed(PREPARE, order_statement(SECOND, 7, digest_of((X,))), (1, 3, 5))
    change = view_change(5, SECOND + 1, order, stable=checkpoint)
    turn = alone.do(alone.view_changes.on_view_change, 5, change)
    assert judged(alone, turn) == []
    assert alone.view.changes == {5: change}
    forged = view_change(3, SECOND + 1, order, stable=signed(CHECKPOINT, checkpoint.statement, (1, 3, 4)))
    turn = alone.do(alone.view_changes.on_view_change, 3, forged)
    assert judged(alone, turn) == [(3, f"sends a view-change that {NO_CHECKPOINT}")], "4 votes no more"


@pytest.mark.parametrize("is_right", [True, False])
def test_nobody_is_blamed_for_a_view_of_an_epoch_that_is_over(is_right: bool) -> None:
    """It was checked while others began to vote, and who its primary was these cannot tell."""
    alone = Alone()
    right = {node: view_change(node, 2, prepared(1, X)) for node in (1, 3, 4)}
    wrong = {**right, 4: msgspec.structs.replace(right[4], signature=right[1].signature)}
    message = new_view(right if is_right else wrong, (X,))
    turn = alone.do(alone.new_views.on_new_view, 3, message)
    assert len(turn.jobs) == 1
    second_epoch(alone)
    assert judged(alone, turn) == []
    assert alone.view.number == SECOND
