"""Vote, a step at a time: each phase, what it must not do, and what is durable before it is said."""

from collections.abc import Sequence
from typing import Any

import pytest

from quorate.kernel import ROOT, Fired, Host, Input, Received, Record, Submitted, Turn
from quorate.parts import requests
from quorate.parts.crypto.keys import Symbolic
from quorate.parts.log.replicated import Decided, Dropped, ReadFailed, ReadReady
from quorate.parts.quorum import Byzantine
from quorate.parts.votes.certificate import Certificate
from quorate.parts.votes.keeper import VoteKeeper
from quorate.protocols.vote import ENTRY, Vote
from quorate.protocols.vote_messages import (
    Decision,
    Here,
    Locked,
    Precommit,
    Prevote,
    ProposedBatch,
    VoteConfig,
    digest_of,
)
from quorate.sim.chance import streams

SCHEME = Symbolic(range(4))
ONE, TWO = (requests.sign(SCHEME.client(0), [text]) for text in (b"one", b"two"))
A, B = (ONE,), (TWO,)
ALL = (0, 1, 2, 3)


class Stage:
    """Node 1 of four; nodes 0, 1, 2, 3 lead the first rounds of height 1. Messages to itself arrive at once."""

    def __init__(self, records: Sequence[Any] = ()) -> None:
        make = ENTRY.make(VoteConfig(), keys=SCHEME.keys)
        self.host = Host(make, 1, range(4), streams("vote"))
        for record in records:
            self.host.restore(Record(ROOT, record))
        self.said: list[Any] = []
        self.records: list[Any] = []
        self.outputs: list[Any] = []
        self.blames: list[tuple[int, str]] = []
        self._take(self.host.start(0.0))
        self.forget()

    @property
    def core(self) -> Vote:
        assert isinstance(self.host.root, Vote)
        return self.host.root

    def forget(self) -> None:
        self.said, self.records, self.outputs, self.blames = [], [], [], []

    def step(self, *items: Input) -> None:
        """What comes in one step, and what it leads to."""
        self.forget()
        self._take(self.host.step(list(items), 1.0))

    def hears(self, *messages: tuple[int, Any]) -> None:
        """Messages of others."""
        self.step(*[Received(sender, message) for sender, message in messages])

    def _take(self, turn: Turn) -> None:
        self.records += [record.value for record in turn.records]
        self.outputs += [output.value if hasattr(output, "value") else output for output in turn.outputs]
        self.blames += [(blame.node, blame.why) for blame in turn.blames]
        assert not turn.early
        own = []
        for send in turn.sends:
            self.said.append((send.to, send.message))
            if 1 in send.to:
                own.append(Received(1, send.message))
        if own:
            self._take(self.host.step(own, 1.0))


def vote(kind: type[Prevote], node: int, round: int, values: tuple[bytes, ...], height: int = 1) -> Prevote:
    """Signed by the node."""
    digest = digest_of(values)
    keeper = VoteKeeper(kind.__name__.lower(), SCHEME.keys(node), Byzantine(range(4)))
    return kind(height, round, digest, keeper.sign(height, round, digest))


def proof(kind: type[Prevote], round: int, values: tuple[bytes, ...], nodes: Sequence[int] = (0, 2, 3)) -> Certificate:
    keeper = VoteKeeper(kind.__name__.lower(), SCHEME.keys(1), Byzantine(range(4)))
    for node in nodes:
        one = vote(kind, node, round, values)
        assert keeper.keep(node, 1, round, one.digest, one.signature)
    ((_, _, certificate),) = keeper.certificates(1)
    return certificate


def timeouts(count: int) -> list[Input]:
    """So many rounds end, each when a quorum has reached it."""
    rounds = [[Received(0, Here(1, round)), Received(2, Here(1, round)), Fired("round")] for round in range(count)]
    return [item for items in rounds for item in items]


LOCK = Locked(1, 0, A, proof(Prevote, 0, A))


# --- rounds ---


def test_a_round_lasts_until_a_quorum_has_reached_it() -> None:
    """Or a node would be a round ahead of the rest for ever, and its vote would be missed where each one counts."""
    stage = Stage()
    stage.step(*timeouts(1))
    assert stage.core.round == 1
    stage.step(Received(2, Here(1, 1)), Fired("round"))
    assert (stage.core.round, stage.said) == (1, [(ALL, Here(1, 1))]), "node 0 is in round 0 still"
    stage.step(Fired("round"))
    assert stage.core.round == 1
    stage.step(Received(0, Here(2, 0)), Fired("round"))
    assert stage.core.round == 2, "a later height is further"


# --- the phases ---


def test_the_leader_proposes_what_waits_and_prevotes_for_it() -> None:
    stage = Stage()
    stage.step(Submitted((ONE,)))
    assert (stage.said, stage.records) == ([], []), "node 0 leads round 0"
    stage.step(*timeouts(1))
    own = vote(Prevote, 1, 1, A)
    assert stage.said == [(ALL, Here(1, 1)), (ALL, ProposedBatch(1, 1, A)), (ALL, own)]
    assert stage.records == [own]


def test_a_node_prevotes_once_per_round() -> None:
    stage = Stage()
    stage.hears((0, ProposedBatch(1, 0, A)))
    assert (stage.said, stage.records) == ([(ALL, vote(Prevote, 1, 0, A))], [vote(Prevote, 1, 0, A)])
    stage.hears((0, ProposedBatch(1, 0, B)))
    assert (stage.said, stage.records) == ([], [])


def test_prevotes_of_a_quorum_lock_and_precommit() -> None:
    stage = Stage()
    stage.hears((0, ProposedBatch(1, 0, A)), (0, vote(Prevote, 0, 0, A)))
    stage.hears((2, vote(Prevote, 2, 0, A)))
    lock = Locked(1, 0, A, proof(Prevote, 0, A, (0, 1, 2)))
    assert stage.records == [lock]
    assert stage.said == [(ALL, vote(Precommit, 1, 0, A))]


def test_prevotes_of_an_earlier_round_lock_nothing() -> None:
    """A node that has gone on may have prevoted another batch since."""
    stage = Stage()
    stage.hears((0, ProposedBatch(1, 0, A)), (0, vote(Prevote, 0, 0, A)))
    stage.step(*timeouts(1))
    stage.hears((2, vote(Prevote, 2, 0, A)), (3, vote(Prevote, 3, 0, A)))
    assert (stage.records, stage.core.lock) == ([], None)


def test_precommits_of_a_quorum_decide_in_any_round() -> None:
    stage = Stage()
    stage.hears((0, ProposedBatch(1, 0, A)))
    stage.step(*timeouts(1))
    stage.hears(*[(node, vote(Precommit, node, 0, A)) for node in (0, 2, 3)])
    decision = Decision(1, 0, A, proof(Precommit, 0, A))
    assert stage.records == [decision]
    (decided,) = [output for output in stage.outputs if isinstance(output, Decided)]
    assert (decided.first_index, [entry.data for entry in decided.entries], decided.proof) == (1, [ONE], decision.proof)
    assert (stage.core.height, stage.core.round, stage.core.lock) == (2, 0, None)


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_a_quorum_decide_nothing(count: int) -> None:
    stage = Stage()
    stage.hears((0, ProposedBatch(1, 0, A)), *[(node, vote(Precommit, node, 0, A)) for node in (0, 2, 3)[:count]])
    assert stage.core.height == 1


# --- locks ---


def test_a_lock_allows_the_same_batch_alone() -> None:
    stage = Stage([LOCK])
    stage.step(*timeouts(2))
    assert stage.core.round == 2
    stage.hears((2, ProposedBatch(1, 2, B)))
    assert stage.said == [], "no proof"
    stage = Stage([LOCK])
    stage.step(*timeouts(2))
    stage.hears((2, ProposedBatch(1, 2, A)))
    assert stage.said == [(ALL, vote(Prevote, 1, 2, A))]


@pytest.mark.parametrize(
    ("proposal", "may"),
    [
        (ProposedBatch(1, 2, B, 1, proof(Prevote, 1, B)), True),
        (
            ProposedBatch(1, 2, B, 0, proof(Prevote, 0, B)),
            True,
        ),  # cannot be, beside the lock; but it is no less a proof
        (ProposedBatch(1, 2, B, 2, proof(Prevote, 2, B)), False),
        (ProposedBatch(1, 2, B, 1, proof(Prevote, 1, A)), False),
        (ProposedBatch(1, 2, B, 1, proof(Precommit, 1, B)), False),
        (ProposedBatch(1, 2, B, 1, None), False),
    ],
)
def test_a_lock_gives_way_to_prevotes_of_its_round_or_later(proposal: ProposedBatch, may: bool) -> None:
    stage = Stage([LOCK])
    stage.step(*timeouts(2))
    stage.hears((2, proposal))
    assert stage.said == ([(ALL, vote(Prevote, 1, 2, B))] if may else [])


def test_a_leader_that_is_locked_proposes_its_lock_with_the_proof() -> None:
    stage = Stage([LOCK])
    stage.step(Submitted((TWO,)), *timeouts(1))
    assert (ALL, ProposedBatch(1, 1, A, 0, LOCK.proof)) in stage.said


# --- what is remembered ---


def test_after_a_restart_it_prevotes_no_second_time() -> None:
    own = vote(Prevote, 1, 2, A)
    stage = Stage([own])
    assert stage.core.round == 2
    stage.hears((2, ProposedBatch(1, 2, B)))
    assert stage.said == []
    stage.step(Fired("beat"))
    assert stage.said == [(ALL, own), (ALL, Here(1, 2))]


def test_a_checkpoint_has_all_that_was_durable() -> None:
    decision = Decision(1, 0, A, proof(Precommit, 0, A))
    prevote = vote(Prevote, 1, 3, B, height=2)
    stage = Stage([decision, prevote])
    assert list(stage.core.checkpoint()) == [decision, prevote]
    assert (stage.core.height, stage.core.round, stage.core.commit_index) == (2, 3, 1)


# --- who is behind, who lies ---


def test_who_is_behind_is_sent_decisions_and_takes_them_of_anyone() -> None:
    decision = Decision(1, 0, A, proof(Precommit, 0, A))
    ahead, behind = Stage([decision]), Stage()
    ahead.hears((3, Here(1, 4)))
    assert ahead.said == [((3,), decision)]
    behind.hears((3, decision))
    assert (behind.records, behind.core.height) == ([decision], 2)


def test_a_round_that_f_plus_one_have_reached_is_followed() -> None:
    stage = Stage()
    stage.hears((3, Here(1, 900)))
    assert stage.core.round == 0, "it may be the liar"
    stage.hears((2, Here(1, 4)))
    assert stage.core.round == 4


@pytest.mark.parametrize(
    ("sender", "message", "why"),
    [
        (2, ProposedBatch(1, 0, A), "proposed, and did not lead"),
        (0, ProposedBatch(1, 0, (b"junk",)), "proposed what no client signed"),
        (3, vote(Prevote, 2, 0, A), "sent a vote that it did not sign"),
        (3, vote(Precommit, 2, 0, A), "sent a vote that it did not sign"),
        (3, Decision(1, 0, B, proof(Precommit, 0, A)), "sent a decision without a proof"),
        (3, Decision(1, 0, A, proof(Prevote, 0, A)), "sent a decision without a proof"),
    ],
)
def test_what_no_honest_node_sends_is_blamed_and_changes_nothing(sender: int, message: Any, why: str) -> None:
    stage = Stage()
    stage.hears((sender, message))
    assert (stage.blames, stage.said, stage.records) == ([(sender, why)], [], [])


# --- from above ---


def test_a_read_waits_for_no_lock() -> None:
    for records, kind in (((), ReadReady), ((LOCK,), ReadFailed)):
        stage = Stage(records)
        stage.core.read([7])
        stage.step(Fired("beat"))
        (output,) = stage.outputs
        assert type(output) is kind
        assert output.tokens == (7,)


def test_what_is_not_signed_is_dropped() -> None:
    stage = Stage()
    stage.step(Submitted((b"junk", ONE)))
    assert stage.outputs == [Dropped((b"junk",), "not signed by a client")]


def test_while_the_disk_is_full_it_votes_for_nothing() -> None:
    stage = Stage()
    stage.core.on_stalled("full")
    stage.hears((0, ProposedBatch(1, 0, A)))
    assert (stage.said, stage.records) == ([], [])
    stage.core.on_stalled(None)
    stage.step(Fired("beat"))
    assert stage.records == [vote(Prevote, 1, 0, A)]
