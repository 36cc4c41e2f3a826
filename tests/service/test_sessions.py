"""The session table: what it keeps and drops follows from the log alone, and survives a snapshot."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.service.sessions import Sessions


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
    assert table.answer(2, 1) is None


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
    assert all(other.answer(7, serial) == data for serial, data in results.items())


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
    assert table.answer(2, 1) is None


@pytest.mark.parametrize("count_max", [1, 2, 64])
def test_the_table_never_grows_beyond_its_limit(count_max: int) -> None:
    table = Sessions(count_max)
    for index in range(1, 200):
        table.open(index)
        assert len(table) == min(index, count_max)
    assert sorted(ids(table)) == list(range(200 - count_max, 200))
