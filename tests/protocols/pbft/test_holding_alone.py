"""What travels is held: for whom, for how long, how much, and what that keeps here."""

from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import Failed
from quorate.parts.log.configuration import FOUNDERS_ALONE
from quorate.parts.log.replicated import SnapshotInfo
from quorate.protocols.pbft.fetching import FETCHED_MAX, UNANSWERED_MAX
from quorate.protocols.pbft.holding import HELD_S
from quorate.protocols.pbft.messages import BatchOf, FetchImage, FetchLog, Image, LogOf, Status, digest_of

from tests.protocols.pbft.alone import Alone
from tests.protocols.pbft.pbft_nodes import CONFIG, FOUR, X, in_pieces, request, stable

FILE = bytes(range(40))


def image(sequence: int) -> Image:
    """A snapshot there."""
    return in_pieces(Image(sequence, sequence, b"h" * 32, 40, b"d" * 32, FOUR), FILE)


def batch(sequence: int) -> tuple[bytes, ...]:
    """The one at a number."""
    return (request(f"{sequence}"),)


def go_on(alone: Alone, count: int = 4) -> Any:
    """So many batches are executed, and a snapshot is due; its job."""
    for _ in range(count):
        ordered = batch(alone.history.executed + 1)
        alone.execute(ordered)
        is_due = alone.images.is_due(len(ordered[0]))
    assert is_due
    (job,) = alone.do(alone.images.take).jobs
    assert job.work.index == alone.history.index
    return job.work


def take(alone: Alone, count: int = 1) -> Any:
    """So many snapshots are taken, four batches apart; the job of the last."""
    for _ in range(count):
        work = go_on(alone)
        alone.do(alone.images.taken, SnapshotInfo(work.index, 0, 40, b"d" * 32, in_pieces(image(1), FILE).root))
    return work


def numbers(images: list[Image]) -> list[int]:
    return [image.sequence for image in images]


# --- for whom ---


def test_for_each_node_one_snapshot_is_held_and_of_all_f_plus_1() -> None:
    holding = Alone().holding
    for node, sequence in ((1, 8), (3, 4), (1, 12), (4, 16)):
        holding.fetches(node, image(sequence))
    assert [holding.of(node) for node in (1, 3, 4)] == [12, 4, None], "there is no room for a third"
    holding.fetches(4, image(12))
    assert holding.of(4) == 12, "one of these may travel to as many as want it"
    holding.release(1)
    holding.release(4)
    holding.fetches(4, image(16))
    assert holding.numbers == {4, 16}


def test_an_offer_holds_the_newest_until_another_is_fetched() -> None:
    holding = Alone().holding
    holding.offered(3, image(8))
    holding.offered(3, image(12))
    assert holding.of(3) == 8
    holding.fetches(3, image(12))
    assert holding.of(3) == 12


def test_it_ends_a_minute_after_the_node_asked_for_anything() -> None:
    alone = Alone()
    alone.do(alone.holding.fetches, 3, image(8))
    alone.now += HELD_S - 1
    alone.do(alone.holding.follows, 3)
    alone.do(alone.holding.follows, 4)
    alone.now += HELD_S - 1
    alone.do(lambda: None)
    assert (alone.holding.of(3), alone.holding.of(4)) == (8, None)
    alone.now += 1
    alone.do(lambda: None)
    assert alone.holding.numbers == set()


# --- what is kept ---


def test_what_travels_stays_with_its_file_and_the_batches_after_it() -> None:
    alone = Alone()
    take(alone, 2)
    history = alone.history
    assert messages(alone.do(alone.transfer.on_fetch_image, 3, FetchImage(4, 0))) == []
    assert take(alone).held == (4,)
    assert (numbers(history.stored), numbers(history.images), history.base) == ([4, 8, 12], [8, 12], 8)
    assert (history.kept_after, min(history.digests)) == (4, 5)
    assert sorted(history.nodes_at) == [4, 8, 12]
    assert take(alone).held == (4,)
    assert (numbers(history.stored), history.kept_after) == ([4, 12, 16], 4)
    alone.holding.release(3)
    assert not take(alone).held
    assert (numbers(history.stored), history.kept_after, min(history.digests)) == ([16, 20], 16, 17)


def test_the_node_to_which_it_travels_is_offered_it_and_sent_pieces_and_the_log_after_it() -> None:
    alone = Alone()
    take(alone, 2)
    alone.do(alone.transfer.on_fetch_image, 3, FetchImage(4, 0))
    alone.do(alone.transfer.read, 3, Failed("for a moment"))
    alone.do(alone.transfer.on_fetch_image, 3, FetchImage(4, 0))
    take(alone, 2)
    alone.do(alone.history.stabilize, proof := stable(*map(batch, range(1, 17))))
    assert numbers(offered(alone, 3)) == [4, 12, 16]
    assert numbers(offered(alone, 4)) == [12, 16]
    (log,) = messages(alone.do(alone.catch_up.on_fetch_log, 3, FetchLog(4)))
    assert log == LogOf(4, tuple(alone.history.digests[sequence] for sequence in range(5, 17)), proof)
    alone.do(alone.retransmission.on_status, 3, Status(0, False, 4, 4))
    assert alone.holding.of(3) == 4
    alone.now += 1
    alone.do(alone.retransmission.on_status, 3, Status(0, False, 16, 16))
    assert alone.holding.of(3) is None, "it is level"


def offered(alone: Alone, node: int) -> list[Image]:
    """What a node is offered that asks for the log from the beginning."""
    (offer,) = messages(alone.do(alone.catch_up.on_fetch_log, node, FetchLog(0)))
    return list(offer.images)


def messages(turn: Any) -> list[Any]:
    return [send.message for send in turn.sends]


def test_a_snapshot_that_cannot_be_read_is_held_no_more() -> None:
    alone = Alone()
    take(alone, 2)
    alone.do(alone.transfer.on_fetch_image, 3, FetchImage(4, 0))
    alone.do(alone.transfer.read, 3, Failed("it is damaged"))
    assert alone.holding.of(3) is None


@pytest.mark.parametrize(("too_few", "held"), [(0, (4,)), (1, ())])
def test_no_more_is_held_behind_it_than_there_may_be(too_few: int, held: tuple[int, ...]) -> None:
    """Once more has come, the snapshot is given up, and the node begins again with a newer one."""
    behind = sum(len(batch(sequence)[0]) for sequence in range(5, 13))
    alone = Alone(config=replace(CONFIG, hold_bytes_max=behind - too_few))
    take(alone, 2)
    alone.do(alone.transfer.on_fetch_image, 3, FetchImage(4, 0))
    work = go_on(alone)
    assert (work.held or ()) == held


def test_what_is_behind_a_snapshot_of_an_earlier_life_is_not_known_and_so_it_is_not_held() -> None:
    alone = Alone()
    take(alone, 2)
    alone.images._bytes_at.clear()
    alone.do(alone.transfer.on_fetch_image, 3, FetchImage(4, 0))
    assert not go_on(alone).held


def test_after_a_snapshot_from_others_nothing_older_is_held() -> None:
    alone = Alone()
    take(alone, 2)
    alone.do(alone.transfer.on_fetch_image, 3, FetchImage(4, 0))
    take(alone)
    alone.do(lambda: alone.history.record_image(image(40), FOUNDERS_ALONE, fetched=True))
    assert (numbers(alone.history.stored), alone.history.kept_after) == ([40], 40)


# --- whom to ask ---


def asked(alone: Alone, *sequences: int) -> list[int]:
    """Who is asked for these batches, a beat after the last question."""
    alone.now += CONFIG.beat_s
    digests = [bytes([sequence]) * 32 for sequence in sequences]
    return [send.to[0] for send in alone.do(alone.fetching.fetch, digests).sends]


def test_who_answers_is_asked_rather_than_who_does_not() -> None:
    """Some have dropped what is missing here, and each question that nobody answers costs a beat."""
    alone = Alone()
    first = asked(alone, *range(12))
    assert set(first) == {1, 3, 4}, "by chance"
    alone.fetching._unanswered = {1: 1, 3: 2}
    assert asked(alone, 99) == [4]
    for _ in range(20):
        asked(alone, *range(12))
    counts = alone.fetching._unanswered
    assert max(counts.values()) - min(counts.values()) < FETCHED_MAX, "none is given up for good"


def test_an_answer_makes_up_for_a_question_without_one() -> None:
    alone = Alone()
    alone.fetching._unanswered = {1: 2, 3: 2, 4: UNANSWERED_MAX}
    (asked_one,) = alone.do(alone.fetching.fetch, [digest_of((X,))]).sends[0].to
    alone.do(alone.fetching.on_batch_of, asked_one, BatchOf((X,)))
    assert alone.fetching._unanswered[asked_one] == 1
    alone.do(alone.fetching.on_batch_of, asked_one, BatchOf((X,)))
    assert alone.fetching._unanswered[asked_one] == 1, "nobody asked for that"
