"""Requests that nobody waits for any more: a primary is not suspected for them, and they do not pile up."""

import pytest
from msgspec.structs import replace

from quorate.kernel import Done, Failed, Fired, Job
from quorate.parts.log.replicated import Busy, Screen
from quorate.protocols.pbft import Pbft
from quorate.protocols.pbft.messages import Forward, PbftConfig
from quorate.protocols.pbft.waiting import DOUBT, WaitingRequests

from tests.protocols.pbft.pbft_nodes import CONFIG, Node, X, Y, request


class Trusting(Pbft):
    """Planted: what waits is never doubted."""

    class waiting_class(WaitingRequests):
        def _doubt(self, late: object) -> None:
            pass


def beats(node: Node, count: int) -> list[Forward]:
    """What it passes on in so many beats."""
    sends = [send.message for _ in range(count) for send in node.fire("beat", CONFIG.beat_s).sends]
    return [message for message in sends if isinstance(message, Forward)]


@pytest.mark.parametrize("make", [Pbft, Trusting])
def test_what_was_answered_meanwhile_is_no_reason_to_suspect_a_primary(make: type[Pbft]) -> None:
    """Its client gave it up, so that the sessions count it as answered: no primary orders it."""
    node = Node(make=make)
    node.submit(X)
    node.spent.add(X)
    passed_on = beats(node, 4)
    node.fire("request", CONFIG.request_timeout_s)
    waiting = node.core.waiting
    if make is Pbft:
        assert (len(passed_on), node.core.view.is_changing) == (2, False)
        assert (len(waiting.pending), waiting.pending_bytes, list(waiting.turns)) == (0, 0, [])
    else:
        assert (len(passed_on), node.core.view.is_changing) == (3, True)


def test_what_can_have_an_effect_is_still_owed() -> None:
    node = Node()
    node.submit(X, Y)
    node.spent.add(X)
    beats(node, 4)
    assert list(node.core.waiting.pending.values()) == [Y]
    for _ in range(2):  # that X was over renewed its patience, once
        node.fire("request", CONFIG.request_timeout_s)
    assert node.core.view.is_changing


def test_an_app_that_could_not_say_is_asked_again() -> None:
    node = Node()
    node.submit(X)

    def asked() -> list[Job]:
        node.now += CONFIG.beat_s
        return [job for job in node.host.step([Fired("beat")], node.now).jobs if isinstance(job.work, Screen)]

    assert [asked(), asked()] == [[], []], "it is passed on first"
    (job,) = asked()
    assert job.key == DOUBT
    assert asked() == [], "one question at a time"
    node.step(Done(DOUBT, Failed("no thread"), ()))
    assert len(asked()) == 1
    assert list(node.core.waiting.pending.values()) == [X]


BACKLOG_CONFIG: PbftConfig = replace(CONFIG, batch_bytes_max=2048, inflight_batches=2)


def test_a_backlog_that_is_late_takes_nothing_new_from_clients() -> None:
    node = Node(config=BACKLOG_CONFIG)
    large = [request("x" * 1024 + str(number), client=number) for number in range(5)]
    node.submit(*large)
    node.now += BACKLOG_CONFIG.request_timeout_s / 2
    assert not any(isinstance(output, Busy) for output in node.submit(X).outputs), "it is not late yet"
    node.now += 0.01
    turn = node.submit(Y)
    assert [output for output in turn.outputs if isinstance(output, Busy)] == [Busy((Y,), "too many requests wait")]
    node.on(3, Forward((Y,)))
    assert Y in node.core.waiting.pending.values(), "others hold the primary to what they pass on"


def test_few_requests_that_are_late_turn_nobody_away() -> None:
    node = Node(config=BACKLOG_CONFIG)
    node.submit(X)
    node.now += 10 * BACKLOG_CONFIG.request_timeout_s
    node.submit(Y)
    assert list(node.core.waiting.pending.values()) == [X, Y]
