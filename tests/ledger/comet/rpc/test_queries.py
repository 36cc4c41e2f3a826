"""The language of queries: what it means, what it refuses, and that it reads what it writes."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.ledger.comet.rpc.queries import (
    ALLOWED,
    NUMBER_CHARACTERS_MAX,
    BoundKind,
    Comparison,
    EventQuery,
    QueryCondition,
    parse_query,
)

EVENTS = {
    "tm.event": ["Tx"],
    "transfer.amount": ["8atom", "100"],
    "transfer.to": ["Ivan"],
    "block.day": ["2026-11-30"],
    "block.time": ["2026-11-30T07:04:02.5Z"],
    "big.number": ["9223372036854775808000000001"],
    "odd.number": ["-5", "x", "", "1" * (NUMBER_CHARACTERS_MAX + 1)],
}


@pytest.mark.parametrize(
    "text",
    [
        "tm.event='Tx'",
        "tm.event = 'Tx' AND transfer.to='Ivan'",
        "transfer.amount > 7",
        "transfer.amount = 8",
        "transfer.amount = 100.0",
        "transfer.amount >= 100",
        "transfer.amount <= 8",
        "transfer.amount < 8.5",
        "transfer.to CONTAINS 'va'",
        "transfer.to EXISTS",
        "transfer EXISTS",  # a type alone
        "transfer CONTAINS ''",
        "block.day = DATE 2026-11-30",
        "block.day > DATE 2026-11-29",
        "block.time > TIME 2026-11-30T07:04:02Z",
        "block.time < TIME 2026-11-30T09:04:03+02:00",
        "block.time <= TIME 2026-11-29T23:04:03-08:00",
        "big.number > 9223372036854775808000000000",
        "big.number = 9223372036854775808000000001",
    ],
)
def test_what_holds(text: str) -> None:
    assert parse_query(text).matches(EVENTS)


@pytest.mark.parametrize(
    "text",
    [
        "tm.event='tx'",
        "tm.event = 'Tx' AND transfer.to='ivan'",
        "transfer.amount > 100",
        "transfer.amount < 8",
        "transfer.amount = 8.1",
        "transfer.from EXISTS",
        "transfe EXISTS",
        "transfer = 'x'",
        "transfer.to CONTAINS 'van '",
        "block.day > DATE 2026-11-30",
        "block.day = TIME 2026-11-30T00:00:00Z",  # a date is no time
        "block.time < TIME 2026-11-30T09:04:02+02:00",
        "big.number > 9223372036854775808000000001",
        "odd.number < 100",  # there are no negative numbers, and one too long is not compared
        "odd.number > 0",
    ],
)
def test_what_does_not_hold(text: str) -> None:
    assert not parse_query(text).matches(EVENTS)


def test_nothing_holds_of_nothing() -> None:
    assert not parse_query("a.b EXISTS").matches({})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "offset 0: EOF"),
        ("tx.height", "offset 9: EOF"),
        ("tx.height=", "offset 10: EOF"),
        ("a = 1 AND", "offset 9: EOF"),
        ("a = 1 b", "offset 6: got tag, want AND operator"),
        ("a = 1 OR b = 2", "offset 6: got tag, want AND operator"),
        ("'a' = 1", "offset 0: got string, wanted tag"),
        ("a > 'b'", "offset 4: got string, wanted number, timestamp or datestamp"),
        ("a CONTAINS 5", "offset 11: got number, wanted string"),
        ("ä ~", "offset 3: invalid input ~ at offset 4"),  # bytes
        ("a = 'b", "offset 4: a string without an end"),
        ("a = DATE 2026-02-30", "offset 4: invalid DATE value: '2026-02-30'"),
        ("a = TIME 2026-02-03", "offset 4: invalid TIME value: '2026-02-03'"),
        ("a = TIME 2026-02-03T04:05:06+24:00", "invalid TIME value"),
        ("a = DATE 1899-01-01", "offset 4: datestamp year 1899 out of range"),
        ("a" * 520, "maximum query length exceeded"),
        ("a = '" + "ä" * 260 + "'", "maximum query length exceeded"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        parse_query(text)


def conditions() -> st.SearchStrategy[QueryCondition]:
    tags = st.from_regex(r"[a-z_][a-z0-9._-]{0,10}", fullmatch=True)
    texts = {
        BoundKind.STRING: st.text(st.characters(exclude_characters="'", exclude_categories=["Cs"]), max_size=10),
        BoundKind.NUMBER: st.from_regex(r"[0-9]{1,20}(\.[0-9]{0,5})?", fullmatch=True),
        BoundKind.DATE: st.dates().filter(lambda day: 1900 <= day.year <= 2999).map(lambda day: day.isoformat()),
        BoundKind.TIME: st.just("2026-11-30T07:04:02Z"),
    }

    def of(comparison: Comparison) -> st.SearchStrategy[QueryCondition]:
        if not ALLOWED[comparison]:
            return tags.map(lambda tag: QueryCondition(tag, comparison, None, ""))
        kinds = st.sampled_from(ALLOWED[comparison])
        with_texts = kinds.flatmap(lambda kind: st.tuples(st.just(kind), texts[kind]))
        return st.builds(lambda tag, found: QueryCondition(tag, comparison, *found), tags, with_texts)

    return st.sampled_from(Comparison).flatmap(of)


@settings(max_examples=25)
@given(st.lists(conditions(), min_size=1, max_size=4))
def test_it_reads_what_it_writes(made: list[QueryCondition]) -> None:
    query = EventQuery(tuple(made))
    assert parse_query(query.text()) == query
    assert parse_query(query.text().replace(" = ", "=")).text() == query.text() or "'" in query.text()


@settings(max_examples=100)
@given(st.text(alphabet=st.sampled_from("ab.='<>1 ANDEXISTCOMTIME-:Z2026ä\n\0"), max_size=40))
def test_any_text_is_a_query_or_refused_in_words(text: str) -> None:
    try:
        query = parse_query(text)
    except ValueError:
        return
    assert parse_query(query.text()) == query
    query.matches(EVENTS)
