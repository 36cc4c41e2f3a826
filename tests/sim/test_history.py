"""Histories: pairing, Jepsen's EDN, JSON lines, round trips, and files that are hostile or wrong."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.sim.history import Event, HistoryError, Limits, edn, format_event, pair, read_history, write_history
from quorate.sim.history.edn import EdnError
from quorate.sim.history.values import Character, Keyword, Symbol, Tagged, freeze


def parse(text: str) -> list[Any]:
    return [value for _, value in edn.read_edn(text.splitlines(keepends=True))]


def test_edn_values() -> None:
    text = (
        "{:a nil, :b [1 -2 3N 1.5 2.5M 1e3] :c (x true false)"
        ' #{1 2} "q\\"\\n\\u0041" \\a \\newline "" [] :d #inst "2026"}'
    )
    assert parse(text) == [
        {
            Keyword("a"): None,
            Keyword("b"): [1, -2, 3, 1.5, Decimal("2.5"), 1000.0],
            Keyword("c"): (Symbol("x"), True, False),
            frozenset({1, 2}): 'q"\nA',
            Character("a"): Character("\n"),
            "": [],
            Keyword("d"): Tagged("inst", "2026"),
        }
    ]


def test_edn_comments_discards_and_values_over_lines() -> None:
    assert parse('; a comment\n{:a ; another\n 1 #_ {:skipped [1 2]} :b "two\nlines"}\n\n3') == [
        {Keyword("a"): 1, Keyword("b"): "two\nlines"},
        3,
    ]


def test_one_vector_or_list_is_the_sequence_of_its_elements() -> None:
    assert list(edn.read_edn(["[1\n", "[2]\n", "]"])) == [(1, 1), (2, [2])]
    assert parse("(1 (2))") == [1, (2,)]
    assert parse("#jepsen.history.History [1 2]") == [1, 2]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{:a", "line 1: '{' opened here is never completed"),
        ("\n]", "line 2: ']' closes nothing"),
        ("{:a [1}", "cannot close '['"),
        ("{:a}", "a key that has no value"),
        ("{:a #tag}", "has no value"),
        ('"open', "unexpected '\"open'"),
        ("12x", "'12x' is not a number"),
        ("9" * 5000, "digits"),
        ("\\nope", "unknown character"),
        ('"\\q"', "unknown escape"),
        ("{" + "[" * 100, "nested deeper than 64"),
        ("{" + "#a " * 100, "nested deeper than 64"),
        ('"' + "\n" * 1000 + '"', "missing"),
        ("1 ::a", "unexpected '::a'"),
    ],
)
def test_edn_errors_say_where_and_what(text: str, says: str) -> None:
    with pytest.raises(EdnError) as error:
        parse(text)
    assert says in str(error.value)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
KEYWORDS = st.from_regex(r"[a-z][a-z0-9-]{0,6}", fullmatch=True).map(Keyword)
ONLY_EDN = (
    st.fractions().filter(lambda ratio: ratio.denominator > 1)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.characters(exclude_categories=()).map(Character)
)
JSON_VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
EDN_VALUES = st.recursive(
    LEAVES | KEYWORDS | ONLY_EDN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYWORDS, inner, max_size=3)
        | st.frozensets(KEYWORDS, max_size=3)
        | inner.map(lambda value: Tagged("a.b/c", value))
    ),
    max_leaves=6,
)


@given(EDN_VALUES)
def test_edn_round_trip(value: Any) -> None:
    assert parse(f"0 {edn.write(value)} :end") == [0, value, Keyword("end")]


@given(EDN_VALUES, EDN_VALUES)
def test_frozen_values_are_equal_if_their_texts_are(one: Any, other: Any) -> None:
    frozen = freeze(one)
    assert freeze(frozen) == frozen == freeze(parse(f"0 {edn.write(frozen)}")[1])
    if edn.write(freeze(one)) == edn.write(freeze(other)):
        assert frozen == freeze(other)
    else:
        assert frozen != freeze(other)


@given(st.text(alphabet='{}[]()#_:"\\;, \n1a-nil', max_size=40))
def test_whatever_the_text_edn_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except EdnError as error:
        refused = str(error)
    else:
        refused = "line 0"
    assert refused.startswith("line ")


def event_lists(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Event]]:
    event = st.builds(
        Event,
        type=st.sampled_from(["invoke", "ok", "fail", "info"]),
        process=st.integers(0, 5) | st.just("nemesis"),
        f=st.sampled_from(["read", "write", "cas"]),
        value=values,
        key=st.none() | st.integers(0, 3) | st.sampled_from(["x", "y"]),
        index=st.none() | st.integers(0, 10),
        time=st.none() | st.integers(0, 2**60),
    )
    return st.lists(event, min_size=1, max_size=5)


def same(read: list[Event], written: list[Event]) -> bool:
    fields = ("type", "process", "f", "value", "key", "index", "time")
    return [[getattr(e, name) for name in fields] for e in read] == [
        [getattr(e, name) for name in fields] for e in written
    ]


@given(events=event_lists(JSON_VALUES))
@settings(deadline=None)
def test_json_files_round_trip(tmp_path_factory: pytest.TempPathFactory, events: list[Event]) -> None:
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    write_history(path, events, "json")
    assert same(read_history(path), events)


@given(events=event_lists(EDN_VALUES))
@settings(deadline=None)
def test_edn_files_round_trip(tmp_path_factory: pytest.TempPathFactory, events: list[Event]) -> None:
    path = tmp_path_factory.getbasetemp() / "round.edn"
    write_history(path, events, "edn")
    assert same(read_history(path), events)


def test_a_line_is_written_as_jepsen_writes_it() -> None:
    event = Event("invoke", 4, "cas", [0, 3], index=12)
    assert format_event(event, "edn") == "{:type :invoke, :process 4, :f :cas, :value [0 3], :index 12}"
    assert format_event(event, "json") == '{"type":"invoke","process":4,"f":"cas","value":[0,3],"index":12}'


@pytest.mark.parametrize(
    "text",
    [
        "{:type :invoke, :f :read, :process 0}\n{:type :ok, :f :read, :process 0, :value 1}\n",
        "[{:type :invoke, :f :read, :process 0}\n {:type :ok, :f :read, :process 0, :value 1}]",
        "\n\n({:type :invoke, :f :read, :process 0} {:type :ok, :f :read, :process 0, :value 1})",
        "; exported\n#jepsen.history.Op{:type :invoke, :f :read, :process 0 :error [:x]}\n"
        "#jepsen.history.Op{:type :ok, :f :read, :process 0, :value 1}",
        '{"type":"invoke","f":"read","process":0}\n\n{"type":"ok","f":"read","process":0,"value":1,"node":"n1"}\n',
        '\ufeff{ "type":"invoke","f":"read","process":0}\n{"type":"ok","f":"read","process":0,"value":1}',
    ],
)
def test_every_form_is_recognised(tmp_path: Path, text: str) -> None:
    path = tmp_path / "history"
    path.write_text(text, encoding="utf-8")
    (operation,) = pair(read_history(path))
    assert (operation.f, operation.output, operation.certain) == ("read", 1, True)


def test_independent_values_are_keys_and_values(tmp_path: Path) -> None:
    path = tmp_path / "history.edn"
    path.write_text(
        "{:type :invoke, :f :read, :process 0, :value [7 nil]}\n"
        "{:type :info, :f :start, :process :nemesis, :value nil}\n"
        "{:type :ok, :f :read, :process 0, :value [7 3]}\n"
    )
    (operation,) = pair(read_history(path, independent=True))
    assert (operation.key, operation.value, operation.output) == (7, None, 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no events"),
        ("\n \n", "no events"),
        ("; nothing but\n;; comments\n", "no events"),
        ("[]", "no events"),
        ('{"type":"invoke","process":0}', "line 1: an event without f"),
        ('{"type":"began","process":0,"f":"read"}', "line 1: type is 'began'; expected one of invoke, ok, fail, info"),
        ('{"type":"ok"\n', "line 1: not one JSON object a line"),
        ('{"type":"invoke","process":0,"f":"read"}\n[1]', "line 2: expected one object a line"),
        ('[{"type":"invoke","process":0,"f":"read"}]', "line 1: expected one object a line"),
        ("5", "line 1: expected a map"),
        ('{"type":"invoke","process":1.5,"f":"read"}', "process is 1.5"),
        ('{"type":"invoke","process":0,"f":"read","value":' + "[" * 70 + "]" * 70 + "}", "nested deeper"),
        ('{"type":"invoke","process":0,"f":"read","value":' + "[" * 100_000 + "]" * 100_000 + "}", "line 1"),
        ("{:type :invoke, :process 0, :f :read}\n{:type :ok", "line 2: '{' opened here is never completed"),
        ("hello", "line 1: expected a map"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "wrong"
    path.write_text(text)
    with pytest.raises(HistoryError) as error:
        read_history(path)
    assert str(path) in str(error.value)
    assert says in str(error.value)


def test_limits_bound_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long"
    write_history(path, [Event("invoke", i, "read") for i in range(20)])
    for limits in (Limits(events_max=10), Limits(line_size_bytes_max=20), Limits(file_size_bytes_max=100)):
        with pytest.raises(HistoryError):
            read_history(path, limits=limits)
    assert len(read_history(path, limits=Limits(events_max=20))) == 20
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(HistoryError, match="not UTF-8"):
        read_history(path)
    with pytest.raises(HistoryError, match="cannot be read"):
        read_history(tmp_path / "absent")
    with pytest.raises(HistoryError, match="cannot be read"):
        read_history(tmp_path)


def test_pairing() -> None:
    operations = pair(
        [
            Event("invoke", 0, "read"),
            Event("invoke", 1, "write", 1),
            Event("info", "nemesis", "start"),
            Event("invoke", 2, "write", 2),
            Event("ok", 0, "read", 5),
            Event("fail", 1, "write", 1),
            Event("info", 2, "write", 2),
            Event("invoke", 2, "write", 3),
        ]
    )
    assert [(o.process, o.f, o.value, o.output, o.invoked, o.completed) for o in operations] == [
        (0, "read", None, 5, 0, 4),
        (2, "write", 2, None, 3, None),
        (2, "write", 3, None, 7, None),
    ]


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([Event("ok", 0, "read", line=9)], "line 9: ok of read by process 0, which has nothing open"),
        ([Event("invoke", 0, "read"), Event("invoke", 0, "write", 1)], "one operation at a time"),
        ([Event("invoke", 0, "read"), Event("ok", 0, "write", 1)], "completes write but its open operation is read"),
        ([Event("invoke", 0, "get", key="x"), Event("ok", 0, "get", key="y")], "of key 'y'"),
    ],
)
def test_a_history_that_makes_no_sense_is_refused(events: list[Event], says: str) -> None:
    with pytest.raises(HistoryError) as error:
        pair(events)
    assert says in str(error.value)
