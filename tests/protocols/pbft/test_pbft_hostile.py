"""One liar of four says whatever can be decoded, rightly signed or not: nothing raises, nobody else is blamed."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.kernel import Asked, Blame, Failed, Fired, Received, Stalled, Submitted
from quorate.kernel.inputs import Done
from quorate.parts.crypto.keys import VerifyBatch
from quorate.parts.log.configuration import Newcomer, Nodes
from quorate.parts.log.replicated import Chunk, Screen, Screened
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.pbft.checks import CHECKS_MAX
from quorate.protocols.pbft.early import COUNT_MAX
from quorate.protocols.pbft.fetching import FETCHED_MAX
from quorate.protocols.pbft.liars import resign_pbft
from quorate.protocols.pbft.messages import (
    CHECKPOINT,
    COMMIT,
    MESSAGES,
    NULL,
    PREPARE,
    BatchOf,
    Checkpoint,
    Commit,
    Decided,
    FetchBatch,
    FetchImage,
    FetchLog,
    Forward,
    Image,
    ImagePiece,
    LogOf,
    NewView,
    Offer,
    OfferAmong,
    Prepare,
    PrePrepare,
    Proposal,
    Stable,
    Status,
    ViewChange,
    checkpoint_statement,
    digest_of,
    order_statement,
)

from tests.protocols.any_order import job_result
from tests.protocols.every_message import assert_draws_all
from tests.protocols.pbft.pbft_nodes import (
    CONFIG,
    FOUR,
    SCHEME,
    Node,
    X,
    Y,
    Z,
    checkpoint,
    commit,
    decided,
    in_pieces,
    offer,
    point,
    pre_prepare,
    prepare,
    prepared,
    stable,
    view_change,
)

LEARNER, STRANGER = 5, 9
PEERS = (*FOUR, LEARNER)
SMALL_CONFIG = msgspec.structs.replace(CONFIG, members=FOUR, pending_max=8, pending_bytes_max=2000)
BATCHES = [(X,), (Y,)]
"""What the honest nodes order at 1 and 2, if they are let."""
HISTORY = point(*BATCHES)[2]

SMALL = st.integers(0, 7)
NUMBER = st.one_of(SMALL, SMALL, SMALL, st.integers(0, 2**62 - 1))
VIEW = st.one_of(st.sampled_from([0, 0, 2, 2, 1, 3]), NUMBER)
SEQUENCE = st.one_of(st.sampled_from([1, 1, 2, 2, 3, 4]), NUMBER)
BATCH = st.lists(st.sampled_from([X, Y, Z, b"no request", b""]), max_size=6).map(tuple)
DIGEST = st.one_of(
    st.sampled_from([digest_of((X,)), digest_of((Y,)), digest_of((Z,)), NULL, HISTORY]),
    st.binary(min_size=32, max_size=32),
)
SIGNATURE = st.one_of(st.just(b""), st.binary(max_size=96))
GOOD = st.sampled_from([prepared(1, X), prepared(2, Y), prepared(1, X, nodes=(1, 2, 4)), stable(*BATCHES)])
"""Proofs of what the honest nodes did."""
STATEMENT = st.one_of(
    st.builds(order_statement, VIEW, SEQUENCE, DIGEST),
    st.builds(checkpoint_statement, SEQUENCE, NUMBER, DIGEST),
    st.binary(max_size=60),
)
SIGNED = st.dictionaries(st.integers(0, 63), SIGNATURE, max_size=5).map(lambda signed: tuple(sorted(signed.items())))
BAD = st.builds(Certificate, st.sampled_from([PREPARE, CHECKPOINT, "x"]), STATEMENT, SIGNED)
CERTIFICATE = st.one_of(GOOD, GOOD, BAD)
CERTIFICATES = st.lists(CERTIFICATE, max_size=3).map(tuple)
CHANGE = st.builds(ViewChange, VIEW, st.one_of(st.none(), CERTIFICATE), CERTIFICATES, SIGNATURE)
HONEST_CHANGE = st.sampled_from([(n, view_change(n, view, prepared(1, X))) for n in (1, 3, 4) for view in (1, 2, 3, 4)])
CHANGES = st.lists(st.one_of(HONEST_CHANGE, HONEST_CHANGE, st.tuples(st.integers(0, 63), CHANGE)), max_size=4).map(
    tuple
)
PROPOSALS = st.lists(st.builds(Proposal, SEQUENCE, DIGEST, SIGNATURE), max_size=3).map(tuple)
FIFTH = Newcomer(5, "n5:1", SCHEME.signer(5).public)
NODES = st.sampled_from([Nodes(), Nodes((FIFTH,)), Nodes((), (4,)), Nodes((FIFTH, FIFTH)), Nodes((FIFTH,), (5,))])
IMAGE = st.builds(Image, NUMBER, NUMBER, DIGEST, NUMBER, DIGEST, st.just(FOUR))
CHUNK = st.builds(Chunk, NUMBER, SMALL, NUMBER, st.just(b"data"), NUMBER)
PROOFS = st.lists(SIGNATURE, min_size=1, max_size=6).map(tuple)
MESSAGE = st.one_of(
    st.builds(Forward, BATCH),
    st.builds(PrePrepare, VIEW, SEQUENCE, DIGEST, SIGNATURE, BATCH),
    st.builds(Prepare, VIEW, SEQUENCE, DIGEST, SIGNATURE, SIGNATURE),
    st.builds(Commit, VIEW, SEQUENCE, DIGEST, PROOFS),
    st.builds(Checkpoint, SEQUENCE, NUMBER, DIGEST, SIGNATURE),
    st.builds(Stable, CERTIFICATE),
    CHANGE,
    st.builds(NewView, VIEW, CHANGES, PROPOSALS, SIGNATURE),
    st.builds(Status, NUMBER, st.booleans(), NUMBER, NUMBER),
    st.builds(Decided, SEQUENCE, DIGEST, PROOFS),
    st.builds(FetchBatch, DIGEST),
    st.builds(BatchOf, BATCH),
    st.builds(FetchLog, NUMBER),
    st.builds(LogOf, NUMBER, st.lists(DIGEST, max_size=3).map(tuple), CERTIFICATE),
    st.builds(Offer, st.lists(IMAGE, max_size=4).map(tuple), PROOFS),
    st.builds(OfferAmong, st.lists(IMAGE, max_size=4).map(tuple), st.lists(NODES, max_size=4).map(tuple), PROOFS),
    st.builds(FetchImage, NUMBER, NUMBER),
    st.builds(ImagePiece, CHUNK),
)
LIAR = st.sampled_from([1, 1, 3, 3, 4, LEARNER])
HONEST = [
    *[(1, pre_prepare(sequence, *batch)) for sequence, batch in enumerate(BATCHES, 1)],
    *[(node, prepare(node, pre_prepare(at, *batch))) for node in (3, 4) for at, batch in enumerate(BATCHES, 1)],
    *[(node, commit(node, pre_prepare(at, *b), PEERS)) for node in (1, 3, 4) for at, b in enumerate(BATCHES, 1)],
    *[(node, checkpoint(node, *point(*BATCHES))) for node in (1, 3, 4)],
    *[(node, view_change(node, view, prepared(1, X))) for node in (1, 3, 4) for view in (1, 2, 3)],
    *[(node, Stable(stable(*BATCHES))) for node in (1, 3, 4)],
    *[(node, LogOf(0, tuple(map(digest_of, BATCHES)), stable(*BATCHES))) for node in (1, 3, 4)],
]
LOCAL: list[Any] = [
    *[
        Submitted((X,)),
        Submitted((Y, Z, b"no request")),
        Asked((1,)),
        Stalled("full"),
        Stalled(None),
        "job",
        "job",
        "fail",
    ],
    *[Fired("beat"), Fired("request"), Fired("view"), Fired("execute")],
]
STEP = st.one_of(
    st.tuples(st.booleans(), MESSAGE),
    st.tuples(st.booleans(), MESSAGE),
    st.sampled_from(HONEST),
    st.sampled_from(LOCAL),
)
STATES = ["new", "ordering", "executed", "changing", "entered", "behind"]


def node_in(state: str) -> Node:
    """Node 2 of four that vote, and a learner."""
    node = Node(2, PEERS, config=SMALL_CONFIG)
    if state == "ordering":
        node.on(1, pre_prepare(1, X))
        node.on(3, prepare(3, pre_prepare(1, X)))
    elif state == "executed":
        for sequence, batch in enumerate(BATCHES, 1):
            node.on(1, pre_prepare(sequence, *batch))
            for other in (1, 3, 4):
                node.on(other, commit(other, pre_prepare(sequence, *batch), PEERS))
    elif state == "changing":
        node.change(2, prepared(1, X))
    elif state == "entered":
        node.enter(2, prepared(1, X), batches=[(X,)])
    elif state == "behind":
        node.on(1, Stable(stable(*BATCHES)))
    return node


class Watched:
    """A node, its jobs, and whom it blamed."""

    def __init__(self, state: str, liar: int) -> None:
        self.node = node_in(state)
        self.keys = SCHEME.keys(liar)
        self.liar = liar
        self.jobs: list[Any] = []

    def take(self, step: Any) -> None:
        """One step: a lie, something honest, or a local input."""
        self.node.now += 0.05
        if not isinstance(step, tuple):
            inputs = self._local(step)
        elif isinstance(step[0], bool):
            message = resign_pbft(self.keys, step[1]) if step[0] else step[1]
            inputs = [Received(self.liar, message)]
        else:
            inputs = [Received(*step)] if step[0] != self.liar else []
        for item in inputs:
            turn = self.node.host.step([item], self.node.now)
            self.jobs += turn.jobs
            strangers = [blame for blame in turn.blames if blame.node != self.liar]
            assert not strangers, (strangers, item)
        assert_bounded(self.node.core)

    def _local(self, step: Any) -> list[Any]:
        if not isinstance(step, str):
            return [step]
        if not self.jobs:
            return []
        job = self.jobs.pop(0)
        return [Done(job.key, Failed("broken") if step == "fail" else _result(job.work), job.path)]


def _result(work: Any) -> Any:
    if isinstance(work, Screen):
        return Screened(tuple(range(0, len(work.values), 2)))
    return SCHEME.keyring().verify_batch(work) if isinstance(work, VerifyBatch) else job_result(work)


def assert_bounded(core: Any) -> None:
    """Every table is within its limit."""
    window, nodes = core.config.window, len(PEERS)
    for table in (core.log.slots, core.log.commits, core.log.accepted, core.log.prepared):
        assert len(table) <= window
    for slot in core.log.slots.values():
        assert max(len(slot.collectors), len(slot.proposals), len(slot.prepare_of)) <= nodes
    assert len(core.normal.early) <= COUNT_MAX * nodes
    assert len(core.view.changes) <= len(FOUR)
    assert len(core.checkpoints.collectors) <= window // core.config.checkpoint_batches + 1
    assert all(len(statements) <= len(FOUR) for statements in core.checkpoints.collectors.values())
    assert len(core.fetching.wanted) <= FETCHED_MAX
    assert len(core.transfer.offers) <= nodes
    assert len(core.checks.jobs) <= CHECKS_MAX + window
    assert len(core.waiting.pending) <= core.config.pending_max
    assert core.waiting.pending_bytes == sum(map(len, core.waiting.pending.values())) <= core.config.pending_bytes_max
    assert core.checks.held_bytes == sum(core.checks.held.values())
    assert len(core.transfer.serving) + len(core.retransmission.helped) <= 2 * nodes


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(STATES), LIAR, st.lists(STEP, max_size=25))
def test_nothing_raises_and_nobody_but_the_liar_is_blamed(state: str, liar: int, steps: list[Any]) -> None:
    watched = Watched(state, liar)
    for step in steps:
        watched.take(step)


def test_every_message_is_among_them() -> None:
    assert_draws_all(MESSAGE, MESSAGES)


def test_a_stranger_is_blamed_and_heard_no_further() -> None:
    node = node_in("new")
    before = node.records
    assert node.on(STRANGER, pre_prepare(1, X)).blames == [Blame(STRANGER, "is not a member of the group")]
    assert node.records == before


# --- floods: each of one kind, from one liar ---


def flood(state: str, messages: list[Any], liar: int = 4) -> Node:
    node = node_in(state)
    for message in messages:
        node.on(liar, message)
        assert_bounded(node.core)
    return node


KEYS = SCHEME.keys(4)


def test_votes_of_future_views_take_a_bounded_place() -> None:
    votes = [resign_pbft(KEYS, Prepare(view, 1, NULL, b"", b"")) for view in range(3, 700)]
    node = flood("new", votes)
    assert len(node.core.normal.early) == COUNT_MAX


def test_large_proposals_of_future_views_take_a_bounded_place() -> None:
    node = flood("new", [pre_prepare(1, b"%d" % view + bytes(1 << 20), view=view) for view in range(3, 43, 4)])
    assert 0 < len(node.core.normal.early) <= 4


def test_sequence_numbers_beyond_the_water_marks_take_no_place() -> None:
    messages: list[Any] = []
    for sequence in range(5, 500):
        vote = prepare(4, pre_prepare(sequence, X))
        messages += [vote, commit(4, pre_prepare(sequence, X), PEERS), checkpoint(4, sequence, 1, HISTORY)]
    node = flood("new", messages)
    assert (node.core.log.slots, node.core.log.commits, node.core.checkpoints.collectors) == ({}, {}, {})


def test_digests_of_nothing_take_one_place_a_voter() -> None:
    digests = [bytes([number]) * 32 for number in range(256)]
    messages: list[Any] = [resign_pbft(KEYS, Prepare(0, 1, digest, b"", b"")) for digest in digests]
    for digest in digests:
        macs = KEYS.macs(COMMIT, order_statement(0, 1, digest), PEERS)
        messages.append(Commit(0, 1, digest, macs))
    messages += [FetchBatch(digest) for digest in digests]
    messages += [decided(4, 1, digest, PEERS) for digest in digests]
    node = flood("new", messages)
    assert len(node.core.log.commits[1]._told) == 1
    assert len(node.core.log.commits[1]._said) == 1
    assert node.core.log.slots[1].collectors == {}, "the primary proposed none of them"


def test_checkpoints_of_other_histories_take_one_place_a_voter() -> None:
    histories = [bytes([number]) * 32 for number in range(256)]
    node = flood("new", [checkpoint(4, 2, 2, history) for history in histories])
    assert len(node.core.checkpoints.collectors[2]) == 1


def test_checkpoints_that_are_not_signed_take_no_place() -> None:
    histories = [bytes([number]) * 32 for number in range(256)]
    node = flood("new", [Checkpoint(2, 2, history, b"nonsense") for history in histories])
    assert node.core.checkpoints.collectors.get(2, {}) == {}


def test_view_changes_take_one_place_a_voter() -> None:
    node = flood("new", [view_change(4, view) for view in range(1, 100)])
    assert list(node.core.view.changes) == [4]
    assert not node.core.view.is_changing, "f + 1 must want it"


def test_offers_take_one_place_a_node() -> None:
    offers = [offer(4, *[Image(9, number, HISTORY, 9, HISTORY, FOUR)] * 4, peers=PEERS) for number in range(200)]
    node = flood("behind", offers)
    assert list(node.core.transfer.offers) == [4]
    assert node.core.transfer.fetched is None


def test_requests_take_bounded_room_also_while_they_are_checked() -> None:
    """No check ends: what is under way counts as well, in number and in bytes."""
    for size in (1, 900):
        node = node_in("new")
        values = [_request(4, number, size) for number in range(40)]
        for value in values:
            node.host.step([Received(4, Forward((value,)))], node.now)
        held = node.core.checks.held
        assert len(held) <= SMALL_CONFIG.pending_max
        assert sum(held.values()) <= SMALL_CONFIG.pending_bytes_max
        node = node_in("new")
        node.host.step([Received(4, Forward(tuple(values)))], node.now)
        assert len(node.core.checks.held) <= SMALL_CONFIG.pending_max, "in one message too"


def test_batches_that_nobody_asked_for_are_not_kept() -> None:
    node = flood("ordering", [BatchOf((b"%d" % number,)) for number in range(200)])
    assert len(node.core.log.batches) == 2


def test_a_status_is_answered_once_a_beat() -> None:
    node = node_in("executed")
    node.now += 1
    asked = [node.on(4, Status(0, False, 0, 0)) for _ in range(100)]
    assert [bool(turn.sends) for turn in asked] == [True] + [False] * 99
    node.now += SMALL_CONFIG.beat_s
    assert node.on(4, Status(0, False, 0, 0)).sends


def test_one_piece_of_a_snapshot_is_read_at_a_time() -> None:
    node = node_in("executed")
    node.core.history.images.append(in_pieces(Image(*point(*BATCHES), 9, HISTORY, FOUR), bytes(9)))
    jobs = [job for _ in range(50) for job in node.on(4, FetchImage(2, 0)).jobs]
    assert len(jobs) == 1


def _request(client: int, number: int, size: int) -> bytes:
    from quorate.parts import requests

    return requests.sign(SCHEME.client(client), [b"%d" % number + bytes(size)])
