"""PrimaryWatch alone: what is owed, how long a primary is given for it, and what renews its time."""

from collections.abc import Callable

import pytest

from quorate.kernel import Timer
from quorate.parts.crypto.keys import Verified
from quorate.protocols.pbft.messages import NULL, digest_of
from quorate.protocols.pbft.watch import REQUEST

from tests.protocols.pbft.alone import Alone
from tests.protocols.pbft.pbft_nodes import CONFIG, X, Y, Z, new_view, prepared, request, stable, view_change

TIMEOUT_S = CONFIG.request_timeout_s


def admit(alone: Alone, *values: bytes) -> None:
    """Requests wait, as their clients brought them."""
    alone.do(alone.waiting.submit, values)
    for number, check in list(alone.checks.jobs.items()):
        alone.checks.done(number, Verified((1 << len(check.values)) - 1))
        check.mask = (1 << len(check.values)) - 1
        alone.do(alone.waiting.checked, check)


def is_late(alone: Alone, after_s: float) -> bool:
    """Time passes and the timer runs out: whether the primary is suspected."""
    alone.now += after_s
    alone.do(alone.watch.is_late)
    late: bool = alone.returned
    alone.do(alone.watch.look)
    return late


def forget(alone: Alone, *values: bytes) -> None:
    """These are executed, in one step."""
    for value in values:
        alone.waiting.forget(value)
    alone.do(alone.watch.look)


# --- what is owed ---


def request_waits(alone: Alone) -> None:
    admit(alone, X)


def members_change(alone: Alone) -> None:
    alone.history.change_members((1, 2, 3), 2)


def batch_is_accepted(alone: Alone) -> None:
    alone.do(alone.log.accept, 0, 1, digest_of((X,)), b"")


def view_takes_over(alone: Alone) -> None:
    alone.do(alone.view.enter, new_view({n: view_change(n, 2, prepared(1, X)) for n in (1, 3, 4)}, (X,)))


@pytest.mark.parametrize("owe", [request_waits, members_change, batch_is_accepted, view_takes_over])
def test_a_timer_runs_for_whatever_is_owed(owe: Callable[[Alone], None]) -> None:
    alone = Alone()
    assert alone.do(alone.watch.look).timers == ()
    assert not alone.watch.is_owed
    owe(alone)
    assert alone.do(alone.watch.look).timers == [Timer((), REQUEST, alone.now + TIMEOUT_S)]
    assert alone.watch.is_owed
    assert is_late(alone, TIMEOUT_S)


@pytest.mark.parametrize("owe", [members_change, batch_is_accepted, view_takes_over])
def test_nothing_is_owed_once_the_last_number_is_executed(owe: Callable[[Alone], None]) -> None:
    alone = Alone()
    owe(alone)
    alone.do(alone.watch.look)
    alone.execute((X,), ())
    alone.do(alone.watch.look)
    assert not alone.watch.is_owed
    assert not is_late(alone, TIMEOUT_S)


def test_what_an_earlier_view_accepted_and_the_new_one_left_out_is_not_owed() -> None:
    alone = Alone()
    batch_is_accepted(alone)
    alone.do(alone.log.end_view)
    alone.do(alone.view.enter, new_view({n: view_change(n, 2) for n in (1, 3, 4)}))
    assert not alone.watch.is_owed


@pytest.mark.parametrize("why", ["primary", "changing", "no member", "a full disk"])
def test_who_cannot_suspect_watches_nobody(why: str) -> None:
    alone = Alone(1 if why == "primary" else 2)
    admit(alone, X)
    alone.do(alone.watch.look)
    if why == "changing":
        alone.do(alone.view.leave, 1)
    elif why == "no member":
        alone.view.is_member = False
    elif why == "a full disk":
        alone.view.stalled = "full"
    alone.do(alone.watch.look)
    assert not is_late(alone, TIMEOUT_S)


def test_a_node_that_catches_up_suspects_nobody() -> None:
    """What it waits for may be executed elsewhere. It looks again after a beat, so a primary gains no time by it."""
    alone = Alone()
    admit(alone, X)
    alone.do(alone.watch.look)
    alone.history.look_ahead(stable((Y,), (Z,)))
    alone.now += TIMEOUT_S / 2
    alone.do(alone.history.note_piece)
    assert not is_late(alone, TIMEOUT_S / 2)
    assert not is_late(alone, CONFIG.beat_s)
    alone.execute((Y,), (Z,))
    assert alone.history.reached() is not None
    assert is_late(alone, CONFIG.beat_s)


def test_a_node_that_is_behind_and_gets_nothing_suspects_as_any() -> None:
    """The others may need its vote to go on."""
    alone = Alone()
    admit(alone, X)
    alone.do(alone.watch.look)
    alone.history.look_ahead(stable((Y,), (Z,)))
    assert is_late(alone, TIMEOUT_S)


# --- patience ---


def test_numbers_up_to_a_change_of_members_are_each_given_a_timeout() -> None:
    alone = Alone()
    alone.history.change_members((1, 2, 3), 4)
    alone.do(alone.watch.look)
    for _ in range(3):
        assert not is_late(alone, 0.75 * TIMEOUT_S)
        alone.execute(())
        alone.do(alone.watch.look)
    assert alone.history.executed == 3
    assert NULL in alone.log.batches
    assert is_late(alone, TIMEOUT_S)


def test_a_backlog_that_is_worked_off_in_turn_deposes_nobody() -> None:
    alone = Alone()
    backlog = [request(f"{number}") for number in range(10)]
    admit(alone, X, *backlog)
    for value in reversed(backlog):  # the primary has them in another order, and X last
        assert not is_late(alone, 0.75 * TIMEOUT_S)
        forget(alone, value)
    assert not is_late(alone, 0.75 * TIMEOUT_S)
    assert is_late(alone, 0.25 * TIMEOUT_S), "X alone is left, and was given its time"


def test_requests_that_come_later_win_no_time_for_a_primary_that_starves_one() -> None:
    alone = Alone()
    admit(alone, X)
    alone.do(alone.watch.look)
    alone.now += 0.5 * TIMEOUT_S
    admit(alone, Y)
    forget(alone, Y)
    assert not is_late(alone, 0.75 * TIMEOUT_S), "it may have had Y before X"
    admit(alone, Z)
    forget(alone, Z)
    assert is_late(alone, 0.25 * TIMEOUT_S), "not Z"


def test_nor_do_batches_that_nobody_here_asked_for() -> None:
    alone = Alone()
    admit(alone, X)
    alone.do(alone.watch.look)
    alone.now += 0.75 * TIMEOUT_S
    batch_is_accepted(alone)
    alone.execute(())
    alone.do(alone.watch.look)
    assert is_late(alone, 0.25 * TIMEOUT_S)


def test_a_new_view_is_given_its_own_time() -> None:
    alone = Alone()
    admit(alone, X)
    alone.do(alone.watch.look)
    alone.now += 0.75 * TIMEOUT_S
    alone.do(alone.view.enter, new_view({n: view_change(n, 2) for n in (1, 3, 4)}))
    alone.do(alone.watch.look)
    assert not is_late(alone, 0.75 * TIMEOUT_S)
    assert is_late(alone, 0.25 * TIMEOUT_S)
