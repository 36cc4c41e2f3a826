"""The session table: what it keeps and drops follows from the log alone, and survives a snapshot."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.service.sessions import ESTABLISHED_USES, Sessions


def ids(sessions: Sessions) -> list[int]:
    return [session for session, _ in Sessions.decode(sessions.encode())]


def test_the_session_used_longest_ago_goes_first() -> None:
    table = Sessions(3)
    for index in (1, 2, 3):
        table.open(index)
    table.use(1)
    table.open(5)
    assert sorted(ids(table)) == [1, 3, 5]
    table.open(6)
    assert sorted(ids(table)) == [1, 5, 6]


def test_a_closed_session_makes_room_and_may_be_closed_again() -> None:
    table = Sessions(2)
    table.open(1)
    table.open(2)
    table.close(2)
    table.close(2)
    table.close(99)
    table.open(3)
    assert sorted(ids(table)) == [1, 3]
    assert len(table) == 2
    assert table.use(2) is None


@given(st.dictionaries(st.integers(0, 2**62 - 1), st.binary(max_size=40)), st.integers(0, 2**62 - 1))
def test_a_table_comes_back_from_its_encoding(results: dict[int, bytes], answered_below: int) -> None:
    table = Sessions()
    table.open(7)
    session = table.use(7)
    session.results.update(results)
    session.answered_below = answered_below
    other = Sessions()
    other.replace(Sessions.decode(table.encode()))
    assert other.encode() == table.encode()
    assert other.find(7).results == results


@given(st.binary(max_size=200))
def test_bytes_that_are_no_table_are_a_decoding_error(data: bytes) -> None:
    try:
        decoded = Sessions.decode(data)
    except msgspec.MsgspecError:
        return
    assert isinstance(decoded, list)


def test_a_result_belongs_to_one_session() -> None:
    """Two sessions share no default."""
    table = Sessions()
    table.open(1)
    table.open(2)
    table.use(1).results[1] = b"mine"
    assert table.find(2).results == {}


@pytest.mark.parametrize("count_max", [1, 2, 64])
def test_the_table_never_grows_beyond_its_limit(count_max: int) -> None:
    table = Sessions(count_max)
    for index in range(1, 200):
        table.open(index)
        assert len(table) == min(index, count_max)
    assert sorted(ids(table)) == list(range(200 - count_max, 200))


# --- made-up keys ---

REAL = b"real"


def establish(table: Sessions, session: int, owner: bytes, entry: int = 0) -> None:
    """Use it until it is established; entries count from ``entry``."""
    table.open(session, owner, nonce=session)
    for use in range(ESTABLISHED_USES):
        assert table.use(session, owner, entry + use) is not None


def test_made_up_keys_do_not_push_out_a_session_that_is_used() -> None:
    table = Sessions(20)
    establish(table, 1, REAL)
    for number in range(2, 500):
        table.open(number, b"made up %d" % number)
        table.use(number, b"made up %d" % number, 1000 + number)
        assert len(table) <= 20
    assert table.find(1, REAL) is not None
    assert table.find(498, b"made up 498") is not None, "and find room themselves"


def test_one_entry_counts_once_however_many_commands_it_has() -> None:
    table = Sessions(200)
    for session in range(1, 11):
        table.open(session, REAL, session)
    for command in range(10 * ESTABLISHED_USES):
        table.use(1 + command % 10, REAL, 7)
    assert sum(session.uses for _, session in Sessions.decode(table.encode())) == 1


def test_established_sessions_leave_room_and_the_one_used_longest_ago_is_new_again() -> None:
    table = Sessions(10)
    for session in range(1, 10):
        establish(table, session, b"%d" % session)
    assert table.use(1, b"1") is not None
    establish(table, 10, b"10")
    assert {id_: s.uses for id_, s in Sessions.decode(table.encode()) if s.uses < ESTABLISHED_USES} == {2: 0}
    table.open(11, b"11")
    assert table.find(2, b"2") is None
    assert table.find(1, b"1") is not None


def test_a_key_that_opens_many_sessions_expires_its_own_and_the_least_used_of_them() -> None:
    table = Sessions(1000)
    table.open(1, b"another")
    establish(table, 2, REAL)
    for number in range(3, 500):
        table.open(number, REAL, nonce=number)
    assert table.find(1, b"another") is not None
    assert table.find(2, REAL) is not None, "whoever brings its old openings again does not end it"
    assert len(table) == 1 + 100


def test_whoever_fetched_the_table_expires_the_same_sessions() -> None:
    one = Sessions(10)
    for session in range(1, 30):
        owner = b"%d" % (session % 7)
        one.open(session, owner, session)
        for use in range(session % 20):
            one.use(session, owner, 100 * session + use)
    other = Sessions(10)
    other.replace(Sessions.decode(one.encode()))
    assert other.encode() == one.encode()
    for session in range(30, 80):
        owner = b"%d" % (session % 7)
        for table in (one, other):
            table.open(session, owner, session)
            for use in range(session % 23):
                table.use(session, owner, 100 * session + use)
            table.close(session - 3, b"%d" % ((session - 3) % 7))
        assert other.encode() == one.encode()


def test_without_owners_the_table_is_encoded_as_ever() -> None:
    table = Sessions()
    table.open(5)
    assert table.use(5, b"", 9) is not None
    assert table.encode() == msgspec.msgpack.encode([(5, (0, {}, b"", 0))])
    table.replace(Sessions.decode(table.encode()))
    assert table.find(5) is not None
