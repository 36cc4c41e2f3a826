"""Scores: offences ban, honest life does not, and memory is bounded whoever comes."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.parts import scores
from quorate.parts.scores import BAN_AT, BROKEN_PROMISE, DUPLICATE, HALF_LIFE_S, INVALID, OVERSIZE, Scores

DAY_S = 24 * 3600.0
GRAVE = ("WRONG_WORK", "WRONG_SEAL", "INVALID", "UNDECODABLE")
HARMLESS = ("ORPHAN", "FUTURE", "DUPLICATE", "STALE", "LOW_FEE")


@pytest.mark.parametrize("name", GRAVE)
def test_what_no_correct_node_sends_bans_at_once(name: str) -> None:
    assert Scores().add("a", getattr(scores, name), 0.0)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_correct_nodes_do_all_the_time_never_counts(name: str) -> None:
    table = Scores()
    assert not any(table.add("a", getattr(scores, name), 0.001 * count) for count in range(100_000))
    assert len(table) == 0


def test_small_offences_in_a_row_add_up_to_exactly_the_ban() -> None:
    table = Scores()
    assert [table.add("a", BROKEN_PROMISE, 5.0) for _ in range(11)] == [False] * 9 + [True, True]
    assert [table.add("b", OVERSIZE, 5.0) for _ in range(5)] == [False] * 4 + [True]


def test_strangers_do_not_answer_for_each_other() -> None:
    table = Scores()
    table.add(b"key", 99, 0.0)
    assert not table.add(("address", 1), 99, 0.0)
    assert table.add(b"key", 1, 0.0)


def test_points_halve() -> None:
    table = Scores(half_life_s=10.0)
    table.add("a", 80, 100.0)
    assert table.score("a", 100.0) == 80
    assert table.score("a", 110.0) == pytest.approx(40)
    assert table.score("a", 130.0) == pytest.approx(10)
    assert not table.add("a", 59, 110.0)
    assert table.score("a", 110.0) == pytest.approx(99)
    assert table.score("nobody", 0.0) == 0


def test_a_clock_that_goes_back_makes_no_points() -> None:
    table = Scores()
    table.add("a", 60, 1000.0)
    assert table.score("a", 0.0) == 60


def test_a_harmless_message_of_a_banned_one_is_no_second_ban() -> None:
    table = Scores()
    assert table.add("a", INVALID, 0.0)
    assert not table.add("a", DUPLICATE, 0.0)
    table.forget("a")
    assert not table.add("a", BROKEN_PROMISE, 0.0)


def test_twenty_honest_nodes_are_not_banned_in_a_year() -> None:
    """Each breaks a promise an hour by chance, three at once when it restarts every day, and doubles what it likes."""
    for node in range(20):
        rng = random.Random(node)
        table = Scores()
        now, restart_at, highest = 0.0, DAY_S, 0.0
        while now < 365 * DAY_S:
            now += rng.expovariate(1 / 3600.0)
            promises = 1
            if now > restart_at:
                restart_at += DAY_S
                promises = 3
            table.add("honest", DUPLICATE, now)
            assert not any(table.add("honest", BROKEN_PROMISE, now) for _ in range(promises))
            highest = max(highest, table.score("honest", now))
        assert 30 < highest < BAN_AT


def test_a_steady_offender_stays_below_its_bound_or_is_banned_soon() -> None:
    bound = BROKEN_PROMISE / (1 - 2 ** (-600 / HALF_LIFE_S))
    assert bound == pytest.approx(48.5, abs=0.1)
    table = Scores()
    for count in range(10_000):
        assert not table.add("slow", BROKEN_PROMISE, 600.0 * count)
        assert table.score("slow", 600.0 * count) < bound
    banned_after = next(count for count in range(1, 100) if table.add("fast", BROKEN_PROMISE, 60.0 * count))
    assert banned_after < 15


def test_the_lowest_goes_first_and_of_equals_the_oldest() -> None:
    table = Scores(entries_max=3)
    table.add("high", 50, 0.0)
    table.add("old", 10, 0.0)
    table.add("new", 10, 0.0)
    table.add("another", 20, 0.0)
    assert [table.score(who, 0.0) for who in ("high", "old", "new", "another")] == [50, 0, 10, 20]
    table.add("old", 30, HALF_LIFE_S)
    assert [table.score(who, HALF_LIFE_S) for who in ("high", "new", "another", "old")] == [25, 0, 10, 30]


def test_an_offence_of_one_that_is_known_pushes_nobody_out() -> None:
    table = Scores(entries_max=2)
    table.add("a", 10, 0.0)
    table.add("b", 20, 0.0)
    table.add("b", 10, 0.0)
    assert (len(table), table.score("a", 0.0), table.score("b", 0.0)) == (2, 10, 30)


def test_the_oldest_is_whose_last_offence_is() -> None:
    table = Scores(entries_max=2)
    table.add("a", 5, 0.0)
    table.add("b", 10, 0.0)
    table.add("a", 5, 0.0)
    table.add("c", 10, 0.0)
    assert [table.score(who, 0.0) for who in "abc"] == [10, 0, 10]


def test_those_with_next_to_no_points_go_together() -> None:
    table = Scores(entries_max=100)
    for number in range(100):
        table.add(number, 10, 0.0)
    table.add("late", 10, 10 * HALF_LIFE_S)
    assert len(table) == 1


def test_a_crowd_of_small_offenders_hides_no_great_one() -> None:
    table = Scores(entries_max=16)
    table.add("great", 90, 0.0)
    for number in range(10_000):
        table.add(number, OVERSIZE, 0.0)
    assert table.add("great", BROKEN_PROMISE, 0.0)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([-5, 0, 1, 10, 20, 100]), st.floats(0, 5000)), max_size=200),
    st.integers(1, 8),
)
def test_memory_is_bounded_and_scores_are_never_negative(offences: list[tuple[int, int, float]], most: int) -> None:
    table = Scores(entries_max=most)
    now = 0.0
    for who, points, later in offences:
        now += later
        before = table.score(who, now)
        banned = table.add(who, points, now)
        assert banned == (points > 0 and before + points >= BAN_AT)
        assert len(table) <= most
        assert all(table.score(each, now) >= 0 for each in range(31))


@pytest.mark.parametrize("fields", [{"entries_max": 0}, {"half_life_s": 0.0}])
def test_limits_are_above_zero(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Scores(**fields)  # type: ignore[arg-type]
