"""What brings requests into an order and up, each part alone: checks, requests, normal case, execution, reads."""

import msgspec
import pytest

from quorate.kernel import Blame, Failed, Timer, Turn
from quorate.parts import requests
from quorate.parts.crypto.keys import Verified, VerifyBatch
from quorate.parts.log.entries import COMMAND, Entry
from quorate.parts.log.replicated import Decided as Executed
from quorate.parts.log.replicated import Dropped, ReadFailed, ReadReady, Restored, Screen, Screened, TakeCommonSnapshot
from quorate.protocols.pbft import checks as checks_module
from quorate.protocols.pbft import waiting
from quorate.protocols.pbft.checks import CHECK, SCREEN, SignatureChecks
from quorate.protocols.pbft.execution import EXECUTE
from quorate.protocols.pbft.messages import (
    NULL,
    Accepted,
    Checkpoint,
    Commit,
    FetchBatch,
    Forward,
    Image,
    Prepare,
    Prepared,
    PrePrepare,
    Stored,
    digest_of,
)

from tests.protocols.effects import to, written
from tests.protocols.pbft.alone import Alone
from tests.protocols.pbft.pbft_nodes import (
    CONFIG,
    FOUR,
    SCHEME,
    X,
    Y,
    Z,
    commit,
    new_view,
    pre_prepare,
    prepare,
    prepared,
    request,
    view_change,
)

FORGED = requests.sign(SCHEME.client(1), [b"x"])[:-1] + b"?"


def end_checks(alone: Alone, *, failure: Failed | None = None) -> None:
    """All jobs that check signatures end, and the requests hear of it."""
    for number, check in list(alone.checks.jobs.items()):
        result = failure or Verified(sum(1 << place for place, (_, v) in enumerate(check.values) if v != FORGED))
        done = alone.checks.done(number, result)
        assert done is check
        alone.do(alone.waiting.checked, done)
        if done.sequence is not None:
            alone.do(alone.normal.checked, done)


def end_screenings(alone: Alone, *spent: bytes, failure: Failed | None = None) -> list[Turn]:
    """The App says of which requests its sessions have the answer."""
    turns = []
    for number, (_, fresh) in list(alone.checks.screenings.items()):
        places = tuple(place for place, (value, _) in enumerate(fresh.values()) if value in spent)
        turns.append(alone.do(alone.checks.screened, number, failure or Screened(places)))
    return turns


def admit(alone: Alone, *values: bytes) -> None:
    """Requests wait, as their clients brought them."""
    alone.do(alone.waiting.submit, values)
    end_checks(alone)


# --- checks ---


def ask(checks: SignatureChecks, *values: bytes) -> set[int]:
    decoded = [requests.decode_signed_request(value) for value in values]
    fresh = {b"%d" % at: (v, requests.claim(r)) for at, (v, r) in enumerate(zip(values, decoded, strict=True)) if r}
    return checks.ask(3, fresh, 7)


def test_a_check_says_which_values_are_rightly_signed() -> None:
    alone = Alone()
    checks = alone.checks
    turn = alone.do(ask, checks, X, Y)
    (job,) = turn.jobs
    assert (job.key, type(job.work), len(job.work.items)) == ((CHECK, 1), VerifyBatch, 2)
    assert (checks.held_bytes, len(checks.held)) == (len(X) + len(Y), 2)
    check = checks.done(1, Verified(0b10))
    assert check is not None
    assert (check.sender, check.sequence, check.mask, check.is_right, check.failure) == (3, 7, 0b10, False, None)
    assert checks.done(1, Verified(0b11)) is None, "it has ended"
    assert [checks.release(digest) for digest in (b"0", b"0", b"1")] == [True, False, True]
    assert (checks.held_bytes, checks.held) == (0, {})


def test_a_check_that_failed_says_nothing_about_the_values() -> None:
    alone = Alone()
    alone.do(ask, alone.checks, X)
    alone.do(ask, alone.checks, Y)
    more = alone.checks.done(2, Verified(0b11))
    assert more is not None
    assert (more.mask, more.is_right) == (1, True), "of its values alone"
    check = alone.checks.done(1, failed := Failed("no thread"))
    assert check is not None
    assert (check.failure, check.is_right) == (failed, False)


# --- requests ---


def test_a_request_waits_once_its_signature_is_right() -> None:
    alone = Alone()
    alone.do(alone.waiting.submit, (X,))
    assert alone.waiting.pending == {}
    (number,) = alone.checks.jobs
    check = alone.checks.done(number, Verified(1))
    assert check is not None
    turn = alone.do(alone.waiting.checked, check)
    assert list(alone.waiting.pending.values()) == [X]
    assert (turn.sends, turn.outputs, turn.blames) == ((), (), ())


def test_who_brings_a_forged_request_is_blamed_or_told() -> None:
    alone = Alone()
    alone.do(alone.waiting.on_forward, 3, Forward((FORGED,)))
    end_screenings(alone)
    (check,) = alone.checks.jobs.values()
    turn = alone.do(alone.waiting.checked, check)
    assert turn.blames == [Blame(3, "passed on a request that its client did not sign")]
    turn = alone.do(alone.waiting.submit, (b"nonsense",))
    assert turn.outputs == [Dropped((b"nonsense",), "the request is not signed by its client")]


def test_what_the_sessions_have_answered_is_neither_checked_nor_kept() -> None:
    alone = Alone()
    turn = alone.do(alone.waiting.on_forward, 3, Forward((X, Y)))
    assert [(job.key, job.work) for job in turn.jobs] == [((SCREEN, 1), Screen((X, Y)))]
    assert alone.checks.held_bytes == len(X) + len(Y), "it takes up room meanwhile"
    assert alone.do(alone.waiting.on_forward, 4, Forward((X,))).jobs == (), "once is enough"
    (turn,) = end_screenings(alone, X)
    (job,) = turn.jobs
    assert [item.signer for item in job.work.items] == [SCHEME.client(0).public]
    assert set(alone.checks.held.values()) == {len(Y)}
    end_checks(alone)
    assert list(alone.waiting.pending.values()) == [Y]
    assert (alone.checks.held, alone.checks.held_bytes, alone.checks.screenings) == ({}, 0, {})


def test_an_app_that_knows_no_sessions_has_all_signatures_checked() -> None:
    alone = Alone()
    alone.do(alone.waiting.on_forward, 3, Forward((X, Y)))
    end_screenings(alone, failure=Failed("nobody does this"))
    end_checks(alone)
    assert list(alone.waiting.pending.values()) == [X, Y]


def test_what_is_executed_while_it_is_screened_is_not_checked() -> None:
    alone = Alone()
    alone.do(alone.waiting.on_forward, 3, Forward((X, Y)))
    alone.waiting.forget(X)
    (turn,) = end_screenings(alone)
    assert [len(job.work.items) for job in turn.jobs] == [1]
    end_checks(alone)
    assert list(alone.waiting.pending.values()) == [Y]


def test_what_was_executed_lately_is_not_even_screened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "EXECUTED_MAX", 2)
    alone = Alone()
    for value in (X, Y, Z):
        alone.waiting.forget(value)
    turn = alone.do(alone.waiting.on_forward, 3, Forward((X, Y, Z)))
    assert [job.work for job in turn.jobs] == [Screen((X,))], "two are remembered"
    assert len(alone.checks.held) == 1
    turn = alone.do(alone.waiting.submit, (Y, request("new")))
    assert [type(job.work) for job in turn.jobs] == [VerifyBatch], "a backup would wait for it in vain"
    assert len(alone.checks.held) == 2


def test_a_primary_has_the_app_look_at_what_its_clients_ask_for_again() -> None:
    """A read whose answer was lost is ordered once more; what the sessions have answered is not."""
    alone = Alone(node=1)
    alone.waiting.forget(X)
    assert [type(job.work) for job in alone.do(alone.waiting.submit, (X,)).jobs] == [Screen]
    assert alone.do(alone.waiting.submit, (X,)).jobs == (), "once at a time"
    assert alone.do(alone.waiting.on_forward, 3, Forward((X,))).jobs == (), "and not for others"


def test_screenings_are_as_few_as_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_module, "CHECKS_MAX", 2)
    alone = Alone()
    for value in (X, Y, Z):
        alone.do(alone.waiting.on_forward, 3, Forward((value,)))
    assert len(alone.checks.screenings) == 2


def test_a_request_that_was_executed_while_it_was_checked_does_not_wait() -> None:
    alone = Alone()
    alone.do(alone.waiting.submit, (X,))
    alone.waiting.forget(X)
    end_checks(alone)
    assert (alone.waiting.pending, alone.checks.held) == ({}, {})


def test_a_full_disk_refuses_requests() -> None:
    alone = Alone()
    alone.view.stalled = "full"
    assert alone.do(alone.waiting.submit, (X,)).outputs == [Dropped((X,), "full")]
    assert alone.do(alone.waiting.on_forward, 3, Forward((X,))).jobs == ()


def test_batches_are_taken_in_order_and_within_their_limits() -> None:
    alone = Alone(config=msgspec.structs.replace(CONFIG, batch_count_max=2))
    admit(alone, X, Y, Z)
    alone.waiting.forget(X)
    assert [alone.waiting.next_batch() for _ in range(3)] == [(Y, Z), (), ()]
    small = Alone(config=msgspec.structs.replace(CONFIG, batch_bytes_max=len(X) + 1))
    admit(small, X, Y)
    assert [small.waiting.next_batch() for _ in range(2)] == [(X,), (Y,)]


def test_what_has_no_number_in_a_view_is_proposed_again() -> None:
    alone = Alone()
    admit(alone, X, Y)
    alone.waiting.turns.clear()
    alone.do(alone.log.keep_batch, digest_of((X,)), (X,))
    alone.do(alone.log.accept, 0, 1, digest_of((X,)), b"")
    alone.do(alone.waiting.requeue)
    assert alone.waiting.next_batch() == (Y,)


def test_what_waited_for_a_beat_is_passed_on_to_the_primary() -> None:
    alone = Alone()
    admit(alone, X)
    assert alone.do(alone.waiting.pass_on).sends == ()
    assert alone.do(alone.waiting.pass_on).sends == [to(1, Forward((X,)))]
    alone.do(alone.view.leave, 1)
    assert alone.do(alone.waiting.pass_on).sends == ()


# --- the normal case ---


def test_a_primary_numbers_what_waits() -> None:
    alone = Alone(1)
    admit(alone, X, Y)
    turn = alone.do(alone.normal.propose)
    message = pre_prepare(1, X, Y)
    assert turn.records == written(Stored((X, Y)), Accepted(0, 1, message.digest, message.signature))
    assert turn.sends == [to((2, 3, 4), message)]
    assert alone.log.next_sequence == 2
    assert alone.do(alone.normal.propose).sends == (), "nothing waits"


def test_a_primary_proposes_nothing_beyond_the_water_mark_and_null_requests_up_to_new_members() -> None:
    alone = Alone(1)
    alone.log.next_sequence = alone.history.high + 1
    admit(alone, X)
    assert alone.do(alone.normal.propose).sends == ()
    idle = Alone(1)
    idle.history.change_members((1, 2, 3), 2)
    sent = [send.message for send in idle.do(idle.normal.propose).sends]
    assert [(m.sequence, m.digest) for m in sent if isinstance(m, PrePrepare)] == [(1, NULL), (2, NULL)]


def test_a_backup_votes_once_the_requests_are_checked() -> None:
    alone = Alone()
    proposed = pre_prepare(1, X)
    turn = alone.do(alone.normal.on_pre_prepare, 1, proposed)
    assert [type(job.work) for job in turn.jobs] == [VerifyBatch]
    assert (turn.records, turn.sends) == ((), ())
    (check,) = alone.checks.jobs.values()
    check.mask = 1
    turn = alone.do(alone.normal.checked, check)
    assert turn.records == written(Stored((X,)), Accepted(0, 1, proposed.digest, proposed.signature))
    assert turn.sends == [to((1, 3, 4), prepare(2, proposed))]


def test_a_backup_votes_once_every_job_has_checked_its_requests() -> None:
    alone = Alone(config=msgspec.structs.replace(CONFIG, batch_count_max=100))
    many = [request(f"{number}") for number in range(70)]
    alone.do(alone.normal.on_pre_prepare, 1, pre_prepare(1, *many))
    assert sorted(alone.checks.jobs) == [1, 2]
    for number, votes in ((2, []), (1, [1])):
        check = alone.checks.done(number, Verified(2**63 - 1))
        assert check is not None
        alone.do(alone.normal.checked, check)
        assert list(alone.log.accepted) == votes


@pytest.mark.parametrize("sequence", [0, CONFIG.window + 1])
def test_numbers_beyond_the_water_marks_take_no_place(sequence: int) -> None:
    alone = Alone()
    proposed = pre_prepare(sequence, X)
    alone.do(alone.normal.on_pre_prepare, 1, proposed)
    alone.do(alone.normal.on_prepare, 3, prepare(3, proposed))
    alone.do(alone.normal.on_commit, 3, commit(3, proposed))
    assert (alone.log.slots, alone.log.commits, alone.checks.jobs) == ({}, {}, {})


def test_a_quorum_of_votes_prepares_and_a_quorum_of_commits_decides() -> None:
    alone = Alone()
    admit(alone, X)
    proposed = pre_prepare(1, X)
    alone.do(alone.normal.on_pre_prepare, 1, proposed)
    turn = alone.do(alone.normal.on_prepare, 3, prepare(3, proposed))
    assert turn.records == written(Prepared(prepared(1, X)))
    assert [type(send.message) for send in turn.sends] == [Commit]
    alone.do(alone.normal.on_commit, 1, commit(1, proposed))
    assert alone.log.decided(1) is None
    alone.do(alone.normal.on_commit, 4, commit(4, proposed))
    assert alone.log.decided(1) == proposed.digest


def test_a_primary_that_tells_two_stories_loses_its_view() -> None:
    alone = Alone()
    admit(alone, X, Y)
    alone.do(alone.normal.on_pre_prepare, 1, pre_prepare(1, X))
    turn = alone.do(alone.normal.on_pre_prepare, 1, pre_prepare(1, Y))
    assert turn.blames == [Blame(1, "proposes two batches at one number")]
    assert alone.left == [1]


def test_votes_for_a_view_that_has_not_begun_are_heard_when_it_begins() -> None:
    alone = Alone(3)
    admit(alone, X)
    proposed = pre_prepare(1, X, view=1)
    alone.do(alone.normal.on_pre_prepare, 2, proposed)
    alone.do(alone.normal.on_prepare, 4, prepare(4, proposed))
    assert (len(alone.normal.early), alone.log.slots) == (2, {})
    alone.do(alone.view.enter, new_view({node: view_change(node, 1) for node in (1, 2, 4)}))
    turn = alone.do(alone.normal.hear_early)
    assert (len(alone.normal.early), alone.log.prepared[1].statement) == (0, prepared(1, X, view=1).statement)
    assert [type(send.message) for send in turn.sends] == [Prepare, Commit]


def test_proposals_of_a_new_view_are_voted_for_as_far_as_the_water_marks_go() -> None:
    alone = Alone()
    batches = [(request(f"{number}"),) for number in range(CONFIG.window + 2)]
    alone.do(alone.view.enter, new_view({node: view_change(node, 2) for node in (1, 3, 4)}, *batches))
    alone.do(alone.normal.take_proposals)
    assert sorted(alone.log.accepted) == list(range(1, CONFIG.window + 1))


def test_a_vote_of_an_earlier_life_is_not_given_again_to_another_batch() -> None:
    alone = Alone()
    proposed = pre_prepare(1, X)
    alone.log.restore(Accepted(0, 1, proposed.digest, proposed.signature))
    alone.log.restore(Stored((X,)))
    alone.do(alone.normal.rebuild)
    admit(alone, Y)
    turn = alone.do(alone.normal.on_pre_prepare, 1, pre_prepare(1, Y))
    assert (turn.records, alone.left) == ((), [1])
    turn = alone.do(alone.normal.resend_order, 4, alone.log.slots[1])
    assert turn.sends == [to(4, prepare(2, proposed))]


# --- execution ---


def decide(alone: Alone, *batches: tuple[bytes, ...]) -> None:
    """These are proven to be next, and here."""
    for sequence, batch in enumerate(batches, alone.history.executed + 1):
        alone.log.batches[digest_of(batch)] = batch
        alone.log.proven[sequence] = digest_of(batch)


def test_what_is_decided_is_handed_up_in_order() -> None:
    alone = Alone()
    admit(alone, X)
    decide(alone, (X,), (Y, Z))
    turn = alone.do(alone.execution.execute_ready)
    assert turn.outputs == [Executed(1, [Entry(0, value, COMMAND) for value in (X, Y, Z)])]
    assert [type(send.message) for send in turn.sends] == [Checkpoint]
    assert alone.waiting.pending == {}, "nothing waits that was executed"


def test_a_batch_that_is_missing_is_asked_for_and_holds_up_what_follows() -> None:
    alone = Alone()
    decide(alone, (X,), (Y,))
    del alone.log.batches[digest_of((X,))]
    turn = alone.do(alone.execution.execute_ready)
    assert (turn.outputs, [send.message for send in turn.sends]) == ((), [FetchBatch(digest_of((X,)))])


def test_execution_pauses_for_a_snapshot_until_the_next_step() -> None:
    alone = Alone()
    batches = [(request(f"{number}"),) for number in range(6)]
    decide(alone, *batches)
    turn = alone.do(alone.execution.execute_ready)
    assert alone.history.executed == CONFIG.snapshot_batches
    assert [job.work for job in turn.jobs] == [TakeCommonSnapshot(4, 0, 0, piece_bytes=CONFIG.chunk_bytes)]
    assert turn.timers == [Timer((), EXECUTE, alone.now)]
    assert alone.do(alone.execution.execute_ready).outputs == ()
    alone.execution.go_on()
    assert [output.first_index for output in alone.do(alone.execution.execute_ready).outputs] == [5]
    assert alone.history.executed == 6


def test_a_fetched_snapshot_takes_the_place_of_what_was_before() -> None:
    alone = Alone()
    admit(alone, X)
    alone.log.proven = {1: digest_of((X,))}
    image = Image(4, 9, bytes(32), 10, bytes(32), FOUR)
    turn = alone.do(alone.execution.install, image, alone.history.nodes)
    assert turn.outputs == [Restored(9, 0)]
    assert (alone.history.point, alone.history.images) == ((4, 9, bytes(32)), [image])
    assert (alone.waiting.pending, alone.log.proven) == ({}, {})


def test_a_journal_without_a_batch_below_its_checkpoint_is_refused() -> None:
    alone = Alone()
    alone.history.low = 1
    with pytest.raises(ValueError, match="lacks batch 1, below its checkpoint at 1"):
        alone.do(alone.execution.recover)


# --- reads ---


def test_a_read_waits_for_what_had_prepared() -> None:
    alone = Alone()
    alone.log.prepared[1] = prepared(1, X)
    alone.log.slot(1).prepared = prepared(1, X)
    alone.do(alone.reads.read, (7, 8))
    assert alone.do(alone.reads.answer).outputs == ()
    alone.execute((X,))
    assert alone.do(alone.reads.answer).outputs == [ReadReady((7, 8))]
    assert alone.do(alone.reads.answer).outputs == (), "once"


def test_reads_fail_when_others_vote_and_need_no_more_than_a_new_view_kept() -> None:
    alone = Alone()
    alone.log.prepared[3] = prepared(3, X)
    alone.log.slot(3).prepared = prepared(3, X)
    alone.do(alone.reads.read, (1,))
    alone.reads.lower(1)
    alone.execute((X,))
    assert alone.do(alone.reads.answer).outputs == [ReadReady((1,))]
    alone.do(alone.reads.read, (2,))
    assert alone.do(alone.reads.fail).outputs == [ReadFailed((2,), "the members have changed")]
    alone.history.change_members((1,), 1)
    (failed,) = alone.do(alone.reads.read, (3,)).outputs
    assert (failed.tokens, "does not vote" in failed.why) == ((3,), True)
