"""How long a cluster is without a leader: the published figures of chapter 9, from the core in the simulator.

What is assumed, and why, is in ``bench/elections.py``, which prints all of them.
"""

from statistics import mean, median
from xml.etree import ElementTree

import pytest

from bench import elections
from bench.elections import LAN_MS, as_we_are, lan, split_rate, split_share, times_ms, wan
from bench.steps_svg import Panel, draw


@pytest.fixture(params=[200, pytest.param(1000, marks=pytest.mark.slow)])
def trials(request: pytest.FixtureRequest) -> int:
    """How many; most of the published figures rest on 1,000."""
    number: int = request.param
    return number


def test_5_ms_of_randomness_give_the_published_median(trials: int) -> None:
    assert median(times_ms(lan(150, 155), trials)) == pytest.approx(287, rel=0.1)


def test_50_ms_of_randomness_give_about_the_published_maximum(trials: int) -> None:
    """A maximum scatters: within a third. No trial is quicker than half a timeout and a round trip."""
    found = times_ms(lan(150, 200), trials)
    assert 75 + 2 * LAN_MS[0] < found[0]
    assert found[-1] == pytest.approx(513, rel=1 / 3)


def test_short_timeouts_give_the_published_mean(trials: int) -> None:
    found = times_ms(lan(12, 24), trials)
    assert mean(found) == pytest.approx(35, rel=0.1)
    assert found[-1] < 2 * 152


def test_without_randomness_there_may_be_no_leader_for_more_than_10_s() -> None:
    assert median(times_ms(elections.STUCK, 20, elections.STUCK_S)) == 10_000


@pytest.mark.parametrize(("failed", "published_ms"), [(1, 475), (2, 650)])
def test_a_wan_gives_the_published_means(failed: int, published_ms: int, trials: int) -> None:
    """Published of 10,000 trials, and read off a plot."""
    assert mean(times_ms(wan(failed), 5 * trials)) == pytest.approx(published_ms, rel=0.1)


def test_logs_that_differ_have_a_minor_effect(trials: int) -> None:
    """§9.5: election times are very similar."""
    same, differ = (mean(times_ms(wan(1, logs_differ=differ), trials)) for differ in (False, True))
    assert same == pytest.approx(differ, rel=0.2)


@pytest.mark.parametrize(("nodes", "up", "delay"), [(5, 4, 0.2), (5, 3, 0.2), (9, 6, 0.2)])
def test_votes_split_as_often_as_the_formula_says(nodes: int, up: int, delay: float, trials: int) -> None:
    """§9.2, within three standard deviations."""
    expected = split_rate(nodes, up, delay)
    deviation = (expected * (1 - expected) / trials) ** 0.5
    assert split_share(nodes, up, delay, trials) == pytest.approx(expected, abs=3 * deviation)


def test_the_formula_gives_the_published_rates() -> None:
    rates = [100 * split_rate(5, 4, delay) for delay in (0.01, 0.1, 0.2)]
    assert rates == pytest.approx([0.06, 5.2, 18.1], abs=0.05)


@pytest.mark.parametrize("timeouts_ms", [(150, 155), (150, 200)])
def test_pre_vote_costs_a_round_trip_at_most_and_shortens_the_tail(
    timeouts_ms: tuple[float, float], trials: int
) -> None:
    """§9.6 over §9.3: it takes a round trip, but no server that cannot win begins a term."""
    paper = times_ms(lan(*timeouts_ms), trials)
    ours = times_ms(as_we_are(lan(*timeouts_ms)), trials)
    round_trip_ms = 2 * LAN_MS[1]
    assert paper[0] < ours[0] < paper[0] + 2 * round_trip_ms, "the quickest pay it"
    assert median(ours) < median(paper) + round_trip_ms
    assert mean(ours[-trials // 20 :]) < mean(paper[-trials // 20 :]), "the slowest twentieth"


def test_all_is_printed_and_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert elections.main(["--trials", "2", "--split-trials", "2"]) == 0
    printed = capsys.readouterr().out
    assert all(row.name in printed for row in elections.ROWS)
    drawn = ElementTree.fromstring(draw([Panel("a < b", "ms", {"x": [1.0, 10.0, 500.0], "y": [7.0]})]))
    assert len(drawn.findall(".//{*}path[@fill='none']")) == 2
