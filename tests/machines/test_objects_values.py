"""Values of calls, results and state: they come back with their exact types, and hostile bytes are a ValueError."""

import contextlib
import datetime as dt
import enum
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quorate.machines.objects.calls import (
    Raised,
    Returned,
    decode_call,
    decode_outcome,
    encode_call,
    encode_raised,
    error_of,
    unpacker_of_calls,
)
from quorate.machines.objects.kinds import Kinds, register_type
from quorate.machines.objects.machine import CommandFailed
from quorate.machines.objects.ordered_set import OrderedSet, in_order
from quorate.machines.objects.values import DEPTH_MAX, Packer, Unpacker, encode


class Color(str, enum.Enum):  # noqa: UP042 (as people write it)
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: int
    tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.x == 13:
            raise AssertionError("an instance is made of its fields alone")


@dataclass(frozen=True, slots=True)
class Fixed:
    x: Any


class Row(msgspec.Struct):
    a: Any
    b: int = 5


class Pair(NamedTuple):
    a: Any
    b: Any = 2


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents


class Broke(Exception):
    pass


class Unknown(Exception):
    pass


register_type(Money, name="test.Money", encode=lambda money: money.cents, decode=Money)
register_type(Broke, name="test.Broke")
KINDS = Kinds([Color, Level, Access, Point, Fixed, Row, Pair])
PACKER, UNPACKER = Packer(KINDS), Unpacker(KINDS)


def exact(value: Any) -> Any:
    """The value with all types."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return kind, [(exact(key), exact(part)) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return kind, [exact(part) for part in value]
    if isinstance(value, set | frozenset):
        return kind, sorted((exact(part) for part in value), key=repr)
    if isinstance(value, Point):
        return kind, exact(value.x), exact(value.tags)
    if isinstance(value, dt.datetime | dt.time):
        return kind, repr(value), value.fold
    if isinstance(value, Row):
        return kind, exact(value.a), exact(value.b)
    if isinstance(value, Fixed):
        return kind, exact(value.x)
    return kind, value.cents if isinstance(value, Money) else repr(value)


zones = st.one_of(
    st.none(),
    st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=-3, microseconds=1)), ZoneInfo("Europe/Berlin")]),
    st.builds(dt.timezone, st.just(dt.timedelta(hours=1)), st.sampled_from(["home", "UTC+01:00"])),
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    st.text(),
    st.binary(),
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(timezones=st.sampled_from([None, dt.UTC])),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
    st.sampled_from([Color.RED, Level.LOW, Access.READ | Access.WRITE, Access(0)]),
)
hashable = st.recursive(
    leaves.filter(lambda value: not (isinstance(value, Decimal) and value.is_nan()) and value == value),
    lambda inner: st.one_of(
        st.tuples(inner, inner),
        st.frozensets(inner, max_size=3),
        st.builds(Fixed, inner),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=4,
)
values = st.recursive(
    st.one_of(leaves, hashable),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(hashable, inner, max_size=4),
        st.sets(hashable, max_size=4),
        st.tuples(inner, inner),
        st.builds(Point, st.just(1), st.lists(inner, max_size=2)),
        st.builds(Row, inner, st.integers(0, 3)),
        st.builds(Pair, inner, inner),
        st.builds(Money, st.integers()),
    ),
    max_leaves=8,
)


@given(values)
@settings(max_examples=300, deadline=None)
@example(-(2**63) - 1)
@example(2**64)
@example({1: 2, 2**70: 3})
@example(Point(1, [()]))  # type: ignore[list-item]
def test_a_value_comes_back_with_its_exact_types_and_has_one_encoding(value: Any) -> None:
    data = PACKER.dumps(value)
    back = UNPACKER.loads(data)
    assert exact(back) == exact(value)
    assert PACKER.dumps(back) == data
    call = decode_call(encode_call("m", [value], {"k": value}, KINDS), Unpacker(KINDS))
    assert (exact(call.args), exact(call.kwargs)) == (exact([value]), exact({"k": value}))


def test_equal_sets_have_equal_bytes_however_they_were_made() -> None:
    names = [f"n{n}" for n in range(50)]
    assert PACKER.dumps(set(names)) == PACKER.dumps({*names[25:], *names[:25]}) == PACKER.dumps(OrderedSet(names[::-1]))
    assert type(UNPACKER.loads(PACKER.dumps(OrderedSet(names)))) is set


def test_sets_of_arguments_are_iterated_in_one_order_under_every_hash_seed() -> None:
    code = (
        "from quorate.machines.objects.calls import *\n"
        "from quorate.machines.objects.kinds import Kinds\n"
        "data = encode_call('m', [{'one', 'two', 'three', (1, 'x'), None, 4}])\n"
        "call = decode_call(data, unpacker_of_calls(Kinds()))\n"
        "print([*call.args[0]], call.args[0] | {'b', 'a', 'c', frozenset({'y', 'z'})}, call.args[0] - {'one'})\n"
    )
    root = Path(__file__).parents[2] / "src"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.replace("frozenset({'z', 'y'})", "frozenset({'y', 'z'})")
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1


def test_elements_of_plain_sets_have_an_order() -> None:
    mixed = {"b", "a", 2, None, (1, frozenset({"x", "y"})), b"c", True, 1.5}
    assert [*map(repr, in_order(mixed))][:4] == ["None", "True", "b'c'", "1.5"]
    assert in_order({"b", "a"}) == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (defaultdict(int), "use a dict and setdefault"),
        (OrderedDict(), "use a dict, which keeps the order"),
        (Counter(), r"use a dict and get\(key, 0\)"),
        (deque(), r"use a list: append and pop\(0\)"),
        (bytearray(), "use bytes"),
        (range(3), "list"),
        (1j, "two floats"),
        (object(), r"register_type\(object"),
        ([object()], "register_type"),
        (type("Text", (str,), {})("a"), "would come back as str"),
        (type("Many", (list,), {})(), "would come back as list"),
        (namedtuple("Loose", "a")(1), "would come back as tuple"),
        ("\ud800", "lone surrogates"),
        ({"\ud800": 1}, "lone surrogates"),
        (dt.datetime(2026, 1, 1, tzinfo=type("Z", (dt.tzinfo,), {})()), r"ZoneInfo\(name\)"),
    ],
)
def test_what_would_come_back_otherwise_is_refused_in_words(value: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        encode_call("m", [value], {}, KINDS)


def test_a_list_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(TypeError, match="nested more than 64 deep"):
        encode_call("m", [loop])


def test_depth_is_limited_on_both_ends() -> None:
    value: Any = None
    for _ in range(DEPTH_MAX):
        value = (value,)
    assert UNPACKER.loads(PACKER.dumps(value)) == value
    with pytest.raises(TypeError, match="nested more than 64 deep"):
        PACKER.dumps((value,))
    deep = b"\x91" * DEPTH_MAX + b"\x91\xc0"
    with pytest.raises(ValueError, match="nested more than 64 deep"):
        UNPACKER.loads(deep)


@given(st.one_of(st.binary(max_size=60), values.map(PACKER.dumps)), st.integers(0, 200), st.integers(0, 255))
@settings(max_examples=500, deadline=None)
def test_hostile_bytes_are_a_value_error(data: bytes, at: int, byte: int) -> None:
    broken = bytearray(data)
    if broken:
        broken[at % len(broken)] = byte
    for hostile in (bytes(broken), data[: at % (len(data) + 1)], b"\xc7" + bytes([len(data) % 256, byte % 14]) + data):
        for read in (
            UNPACKER.loads,
            lambda d: decode_call(d, unpacker_of_calls(KINDS)),
            lambda d: decode_outcome(d, KINDS),
        ):
            with contextlib.suppress(ValueError):
                read(hostile)


# --- instances ---


def test_an_instance_is_made_of_its_fields_alone() -> None:
    hidden = object.__new__(Point)
    hidden.x, hidden.tags = 13, ["a"]
    back = UNPACKER.loads(PACKER.dumps(hidden))  # __post_init__ would raise
    assert (type(back), back.x, back.tags) == (Point, 13, ["a"])


def instance(name: str, fields: dict[str, Any]) -> bytes:
    return encode(msgspec.msgpack.Ext(11, encode([name, fields])))


def test_fields_that_are_missing_get_defaults_and_unknown_ones_are_refused() -> None:
    assert UNPACKER.loads(instance("Point", {"x": 1})) == Point(1, [])
    assert UNPACKER.loads(instance("Row", {"a": 1})) == Row(1, 5)
    assert UNPACKER.loads(instance("Pair", {"a": 1})) == Pair(1, 2)
    for name, fields, words in (
        ("Point", {"x": 1, "z": 2}, "has no field 'z'"),
        ("Point", {}, "lacks its field 'x'"),
        ("Nobody", {}, "no class is known as 'Nobody'"),
        ("os.system", {"x": 1}, "no class is known"),
        ("Color", "GREEN", "has no member 'GREEN'"),
        ("Color", "__class__", "has no member"),
    ):
        with pytest.raises(ValueError, match=words):
            UNPACKER.loads(instance(name, fields))  # type: ignore[arg-type]


def test_attributes_beside_the_fields_are_refused() -> None:
    point = Point(1)
    point.extra = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="attribute 'extra' beside its fields"):
        PACKER.dumps(point)


def test_a_struct_that_runs_code_when_it_is_made_needs_functions() -> None:
    class Busy(msgspec.Struct):
        a: int = 0

        def __post_init__(self) -> None:
            self.a += 1

    with pytest.raises(TypeError, match="has a __post_init__: register_type"):
        Packer(Kinds([Busy])).dumps(Busy())


def test_two_classes_of_one_name_are_told_apart_by_registration() -> None:
    one, two = (dataclass(type("Twin", (), {"__annotations__": {"a": int}, "a": 1})) for _ in range(2))
    kinds = Kinds([one, two])
    with pytest.raises(TypeError, match=r"two classes are called Twin: register_type\(Twin, name="):
        Packer(kinds).dumps(two())
    register_type(two, name="test.SecondTwin")
    assert type(Unpacker(kinds).loads(Packer(kinds).dumps(two()))) is two


@pytest.mark.parametrize(
    ("cls", "options", "error", "words"),
    [
        (object, {}, TypeError, "make it a dataclass, or give encode and decode"),
        (type("Sub", (Point,), {}), {}, TypeError, "make it a dataclass, or give encode and decode"),
        (Money, {"encode": repr}, TypeError, "both encode and decode"),
        (Point, {"name": "test.Money"}, ValueError, "is taken"),
        (Unknown, {"name": "KeyError"}, ValueError, "is taken"),
        (Unknown, {"name": "test.Broke"}, ValueError, "is taken"),
    ],
)
def test_a_registration_that_cannot_work_is_refused(
    cls: type, options: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        register_type(cls, **options)


def test_pydantic_models_keep_their_fields_and_which_were_set() -> None:
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed: its models are not tested")

    class Model(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        a: int
        b: list[int] = []

    class Private(Model):
        _hidden: int = 3

    kinds = Kinds([Model, Private])
    model = Model(a=1)
    back = Unpacker(kinds).loads(Packer(kinds).dumps(model))
    assert back == model
    assert back.model_fields_set == {"a"}
    assert back.model_dump_json() == model.model_dump_json()
    with pytest.raises(TypeError, match="private attributes"):
        Packer(kinds).dumps(Private(a=1))


# --- outcomes ---


@pytest.mark.parametrize(
    "error",
    [
        KeyError("q"),
        ValueError(),
        OSError(2, "gone"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        Broke(1, Color.RED),
    ],
    ids=repr,
)
def test_an_exception_that_is_known_is_raised_again_as_itself(error: Exception) -> None:
    outcome = decode_outcome(encode_raised(error, PACKER), KINDS)
    assert isinstance(outcome, Raised)
    again = error_of(outcome)
    assert (type(again), again.args, str(again)) == (type(error), error.args, str(error))


@pytest.mark.parametrize(
    "error", [Unknown("x"), SystemExit(3), KeyboardInterrupt(), StopIteration(1), KeyError(object())]
)
def test_another_exception_is_a_failed_command_with_the_remote_traceback(error: BaseException) -> None:
    try:
        raise error
    except BaseException as caught:
        outcome = decode_outcome(encode_raised(caught, PACKER, has_traceback=True), KINDS)
    assert isinstance(outcome, Raised)
    again = error_of(outcome)
    assert type(again) is CommandFailed
    assert again.kind == type(error).__name__
    assert "0x..." in again.text or again.text == str(error)  # addresses differ by process


def test_an_exception_with_the_name_of_a_builtin_is_not_taken_for_it() -> None:
    own = type("TimeoutError", (Exception,), {})
    outcome = decode_outcome(encode_raised(own("mine"), PACKER))
    assert isinstance(outcome, Raised)
    assert type(error_of(outcome)) is CommandFailed
    assert outcome.kind == f"{__name__}.TimeoutError"


def test_texts_are_bounded_and_always_text() -> None:
    class Bad(Exception):
        def __str__(self) -> str:
            raise ValueError

    for error in (Bad("a"), ValueError("\ud800"), ValueError("x" * 100_000), ValueError(b"x" * 100_000)):
        data = encode_raised(error, PACKER)
        assert len(data) < 10_000
        assert isinstance(decode_outcome(data), Raised)


def test_what_fits_no_such_exception_is_a_failed_command() -> None:
    assert type(error_of(Raised("UnicodeDecodeError", "t", [1]))) is CommandFailed
    assert type(error_of(Raised("eval", "t", ["1"]))) is CommandFailed
    assert decode_outcome(encode(["ok", 5])) == Returned(5)


def test_a_uuid_and_a_decimal_as_arguments() -> None:
    call = decode_call(encode_call("m", [UUID(int=5), Decimal("1.50")]), Unpacker(Kinds()))
    assert repr(call.args) == "[UUID('00000000-0000-0000-0000-000000000005'), Decimal('1.50')]"
