"""Bans: for how long, of whom, and never too many."""

import pytest

from quorate.runtime.bans import Bans, host_of


def test_a_ban_lasts_until_its_time_and_says_so() -> None:
    bans = Bans()
    bans.add(b"key", 100.0, "garbage " + "x" * 500)
    why = bans.why_not(b"key", 40.0)
    assert why is not None
    assert why.startswith("banned for another 60 s: garbage xxx")
    assert len(why) < 260
    assert bans.why_not(b"other", 40.0) is None
    assert bans.why_not("key", 40.0) is None
    assert bans.why_not(b"key", 100.0) is None
    assert len(bans) == 0, "what is over is forgotten"


def test_the_longer_of_two_bans_stays() -> None:
    bans = Bans()
    bans.add(b"key", 100.0, "first")
    bans.add(b"key", 50.0, "shorter")
    assert bans.why_not(b"key", 0.0) == "banned for another 100 s: first"
    bans.add(b"key", 200.0, "longer")
    assert bans.why_not(b"key", 0.0) == "banned for another 200 s: longer"


def test_of_too_many_those_that_end_first_are_given_up() -> None:
    bans = Bans(count_max=16)
    for number in range(100):
        bans.add(b"%d" % number, float((number * 37) % 101), "why")
        assert len(bans) <= 16
    assert bans.why_not(b"30", 0.0) is not None  # until 100, the longest
    assert [place for place in range(100) if bans.why_not(b"%d" % place, 85.0)]


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%2", "fe80::/64"),
        ("::1", "::/64"),
        ("node.example", "node.example"),
        ("unknown", "unknown"),
    ],
)
def test_one_host(address: str, host: str) -> None:
    assert host_of(address) == host
