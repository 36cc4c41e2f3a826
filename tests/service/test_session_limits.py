"""Limits of the session table: bytes of results, and sessions of one host. The log alone decides what goes."""

import pytest

from quorate.service.requests import Apply, CloseSession, Code, Failure, OpenSession, Result, encode
from quorate.service.sessions import (
    GONE,
    NONCE_BITS,
    RESULT_OVERHEAD_BYTES,
    RESULTS_BYTES_MAX,
    SESSION_RESULTS_BYTES_MAX,
    Sessions,
    stamped,
)

from tests.service.replicas import Bench, command, put

MIB = 1 << 20


def again(table: Sessions) -> Sessions:
    """As whoever fetched it has it."""
    other = Sessions(table.count_max)
    other.replace(Sessions.decode(table.encode()))
    return other


def opened(count: int, count_max: int = 1000) -> Sessions:
    table = Sessions(count_max)
    for session in range(1, count + 1):
        table.open(session, nonce=session << NONCE_BITS)
    return table


# --- bytes ---


def test_the_results_of_a_session_are_bounded_in_bytes_and_the_oldest_go() -> None:
    table = opened(1)
    for serial in range(1, 7):
        table.use(1)
        table.keep(1, serial, bytes(MIB))
    kept = [serial for serial, result in table.find(1).results.items() if result is not GONE]
    assert kept == [4, 5, 6]
    assert table.kept_bytes == 3 * MIB + 6 * RESULT_OVERHEAD_BYTES <= SESSION_RESULTS_BYTES_MAX


def test_a_result_that_is_larger_than_all_that_is_kept_is_gone_at_once() -> None:
    table = opened(1)
    table.keep(1, 1, bytes(SESSION_RESULTS_BYTES_MAX))
    assert table.find(1).results == {1: GONE}


def test_the_results_of_all_are_bounded_and_those_of_the_session_used_longest_ago_go() -> None:
    table = opened(100)
    for session in range(1, 101):
        table.use(session)
        table.keep(session, 1, bytes(MIB))
        assert table.kept_bytes <= RESULTS_BYTES_MAX
    gone = [session for session in range(1, 101) if table.find(session).results[1] is GONE]
    assert 68 <= len(gone) < 100
    assert gone == list(range(1, len(gone) + 1))


def test_results_without_bytes_count_too_and_sessions_go_when_nothing_else_is_left() -> None:
    table = Sessions(1000)
    per_session = 4096
    for session in range(1, 101):
        table.open(session)
        table.use(session)
        for serial in range(per_session):
            table.keep(session, serial, b"")
    assert table.kept_bytes <= RESULTS_BYTES_MAX
    assert table.find(100) is not None
    assert table.find(1) is None
    assert len(table) * per_session * RESULT_OVERHEAD_BYTES <= RESULTS_BYTES_MAX


def test_what_the_client_has_answers_to_is_no_longer_counted() -> None:
    table = opened(2)
    for serial in range(1, 6):
        table.keep(1, serial, bytes(1000))
    table.answered(1, 5)
    assert table.kept_bytes == 1000 + RESULT_OVERHEAD_BYTES
    table.keep(2, 1, bytes(10))
    table.close(1)
    assert table.kept_bytes == 10 + RESULT_OVERHEAD_BYTES


def test_whoever_fetched_the_table_drops_the_same() -> None:
    one = opened(60)
    for session in range(1, 30):
        one.use(session)
        one.keep(session, 1, bytes(MIB))
    other = again(one)
    assert other.kept_bytes == one.kept_bytes
    for number in range(200):
        session = 1 + number * 7 % 60
        for table in (one, other):
            assert table.use(session) is not None
            table.keep(session, 2 + number, bytes(number * 10_000))
        if number % 20 == 0:
            assert other.encode() == one.encode()
    assert other.kept_bytes == one.kept_bytes


def test_a_retry_whose_answer_is_gone_is_told_that_the_command_took_effect() -> None:
    bench = Bench()
    bench.commit(encode(OpenSession(1)))
    operation = put(1, 1, bytes(1_500_000))
    bench.commit(operation, *(put(1, serial, bytes(1_500_000)) for serial in (2, 3)))
    why = "its answer took too much space and is no longer kept"
    bench.request("ann", command(3, operation))
    assert bench.settle() == [("ann", Failure(3, Code.TOO_LARGE, why))]
    assert bench.port.submitted == []
    bench.request("bob", command(4, put(1, 4, b"x", 1)))
    bench.commit(operation, put(1, 4, b"x", 1))
    assert bench.settle() == [("bob", Result(4, b"4:x"))], "and it is not applied again"


# --- hosts ---


def test_a_host_that_opens_many_sessions_expires_its_own_and_none_of_another() -> None:
    table = opened(300)
    for session in range(1001, 6001):
        table.open(session, nonce=7777 << NONCE_BITS)
    assert len(table) <= 1000
    assert all(table.find(session) is not None for session in range(1, 301))


def test_of_one_host_those_go_first_that_no_command_used() -> None:
    table = Sessions(100)
    for session in range(1, 11):
        table.open(session)
        table.use(session)
        table.answered(session, 1)
    for session in range(11, 500):
        table.open(session)
    assert all(table.find(session) is not None for session in range(1, 11))
    assert table.find(499) is not None


def test_hosts_with_equally_many_lose_the_one_used_longest_ago() -> None:
    table = opened(10, count_max=10)
    for session in (1, 2):
        table.use(session)
        table.answered(session, 1)
    table.open(11, nonce=11 << NONCE_BITS)
    assert table.find(3) is None
    assert len(table) == 10


def test_whoever_fetched_the_table_expires_the_same_sessions_of_hosts() -> None:
    one = Sessions(300)
    for session in range(1, 300):
        one.open(session, nonce=(session % 5) << NONCE_BITS)
    other = again(one)
    for session in range(300, 1500):
        for table in (one, other):
            table.open(session, nonce=(session % 7) << NONCE_BITS)
            if table.use(session - 50) is not None:
                table.keep(session - 50, 1, b"x")
    assert other.encode() == one.encode()


def test_an_opening_says_from_which_host_it_came_and_nothing_else_changes() -> None:
    opening = encode(OpenSession(2**60 + 5))
    one, other = stamped(opening, "10.0.0.1"), stamped(opening, "10.0.0.2")
    assert one != other
    assert stamped(encode(OpenSession(5)), "10.0.0.1") == one, "whatever the client wrote there"
    for entry in (encode(Apply(1, 1, 1, b"open")), encode(CloseSession(3)), b"", opening + b"x", b"\x92\xa4open"):
        assert stamped(entry, "10.0.0.1") == entry
    bench = Bench()
    bench.commit(one)
    assert Sessions.decode(bench.replica.sessions.encode())[0][1].nonce not in (0, 2**60 >> NONCE_BITS)


@pytest.mark.parametrize("size_bytes", [1, 1000, 100_000])
def test_bytes_are_what_counts_whatever_the_number_of_results(size_bytes: int) -> None:
    table = opened(1)
    for serial in range(1, 4000):
        table.keep(1, serial, bytes(size_bytes))
    taken = sum(len(result or b"") for result in table.find(1).results.values())
    assert taken <= SESSION_RESULTS_BYTES_MAX
    assert taken >= min(4000 * size_bytes, SESSION_RESULTS_BYTES_MAX // 2) * 3 // 4
