"""The codec of proto3: known bytes, round trips, and hostile bytes, which raise ValueError in words, nothing else."""

import enum

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.ledger.comet import proto, wire_reader
from quorate.ledger.comet.proto import BytesKind, ChoiceType, EnumKind, Field, MessageKind, MessageType, TextKind


class Colour(enum.IntEnum):
    NONE = 0
    RED = 1
    BLUE = 7


class Inner(msgspec.Struct, frozen=True):
    a: int = 0
    raw: bytes = b""


class Outer(msgspec.Struct, frozen=True):
    i32: int = 0
    i64: int = 0
    u32: int = 0
    u64: int = 0
    fixed: int = 0
    flag: bool = False
    colour: Colour = Colour.NONE
    text: str = ""
    maybe: Inner | None = None
    inner: Inner = Inner()
    packed: tuple[int, ...] = ()
    many: tuple[Inner, ...] = ()
    blobs: tuple[bytes, ...] = ()


class Other(msgspec.Struct, frozen=True):
    b: bool = False


INNER = MessageType(Inner, Field(1, "a", proto.INT64), Field(2, "raw", BytesKind(16)))
OTHER = MessageType(Other, Field(1, "b", proto.BOOL))
OUTER = MessageType(
    Outer,
    Field(1, "i32", proto.INT32),
    Field(2, "i64", proto.INT64),
    Field(3, "u32", proto.UINT32),
    Field(4, "u64", proto.UINT64),
    Field(5, "fixed", proto.SFIXED64),
    Field(6, "flag", proto.BOOL),
    Field(7, "colour", EnumKind(Colour)),
    Field(8, "text", TextKind(20)),
    Field(9, "maybe", MessageKind(INNER)),
    Field(10, "inner", MessageKind(INNER), always=True),
    Field(11, "packed", proto.UINT32, count_max=5),
    Field(12, "many", MessageKind(INNER), count_max=4),
    Field(16, "blobs", BytesKind(8), count_max=4),
    bytes_max=400,
)
EITHER: ChoiceType[Inner | Other] = ChoiceType("Either", {1: INNER, 3: OTHER})

inners = st.builds(Inner, a=st.integers(-(2**63), 2**63 - 1), raw=st.binary(max_size=16))
outers = st.builds(
    Outer,
    i32=st.integers(-(2**31), 2**31 - 1),
    i64=st.integers(-(2**63), 2**63 - 1),
    u32=st.integers(0, 2**32 - 1),
    u64=st.integers(0, 2**64 - 1),
    fixed=st.integers(-(2**63), 2**63 - 1),
    flag=st.booleans(),
    colour=st.sampled_from(Colour),
    text=st.text(max_size=5),
    maybe=st.none() | inners,
    inner=inners,
    packed=st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple),
    many=st.lists(inners, max_size=4).map(tuple),
    blobs=st.lists(st.binary(max_size=8), max_size=4).map(tuple),
)


@given(outers)
def test_what_is_encoded_is_decoded(value: Outer) -> None:
    assert OUTER.decode_exact(OUTER.encode(value)) == value


@given(st.one_of(inners, st.builds(Other, b=st.booleans())))
def test_a_choice_keeps_its_kind(value: Inner | Other) -> None:
    assert EITHER.decode_exact(EITHER.encode(value)) == value


@given(st.binary(max_size=60))
def test_hostile_bytes_are_a_value_or_a_value_error(data: bytes) -> None:
    for form in (OUTER, EITHER):
        try:
            value = form.decode(data)
        except ValueError:
            continue
        assert form.decode_exact(form.encode(value)) == value


@given(outers, st.data())
def test_one_changed_byte_is_a_value_or_a_value_error(value: Outer, data: st.DataObject) -> None:
    encoded = bytearray(OUTER.encode(value))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = OUTER.decode(bytes(encoded))
    except ValueError:
        return
    assert OUTER.decode_exact(OUTER.encode(found)) == found


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        # The examples of the encoding guide: 150 and "testing"; and what gogoproto does with zeros and messages.
        (Outer(i64=150), "109601 5200"),
        (Outer(text="testing"), "420774657374696e67 5200"),
        (Outer(i32=-1), "08ffffffffffffffffff01 5200"),
        (Outer(fixed=1), "290100000000000000 5200"),
        (Outer(), "5200"),
        (Outer(maybe=Inner()), "4a00 5200"),
        (Outer(packed=(3, 270)), "5200 5a03 038e02"),
        (Outer(many=(Inner(), Inner(1))), "5200 6200 62020801"),
        (Outer(blobs=(b"", b"x")), "5200 820100 82010178"),
        (Outer(flag=True, colour=Colour.BLUE), "3001 3807 5200"),
    ],
)
def test_known_encodings(value: Outer, encoded: str) -> None:
    assert OUTER.encode(value) == bytes.fromhex(encoded)


@pytest.mark.parametrize(
    ("encoded", "says"),
    [
        ("0a00", "Outer.i32: wire type 2, not 0"),
        ("08ffffffff0f", "Outer.i32: 4294967295 is not from"),
        ("18ffffffffff01", "Outer.u32: "),
        ("3002", "Outer.flag: 2 is not from 0 to 1"),
        ("3802", "Outer.colour: 2 is not a valid Colour"),
        ("4202c328", "Outer.text: 'utf-8' codec"),
        ("4215" + "61" * 21, "Outer.text: 21 bytes, at most 20"),
        ("4a021211", "Outer.maybe: Inner.raw: 17 bytes, at most 16"),
        ("08010801", "Outer.i32: is there twice"),
        ("52005200", "Outer.inner: is there twice"),
        ("5a06010101010101", "Outer.packed: more than 5 of them"),
        ("5801" * 6, "Outer.packed: more than 5 of them"),
        ("6200" * 5, "Outer.many: more than 4 of them"),
        ("08", "Outer.i32: ends within a varint"),
        ("0880", "Outer.i32: ends within a varint"),
        ("88", "ends within a varint"),
        ("08" + "80" * 10 + "01", "a varint of more than 10 bytes"),
        ("20ffffffffffffffffff03", "a varint of more than 64 bits"),
        ("2901", "Outer.fixed: ends 7 bytes before"),
        ("52050801", "Outer.inner: ends 3 bytes before"),
        ("0001", "field number 0"),
        ("f301", "wire type 3, which proto3 does not have"),
        ("f401", "wire type 4"),
        ("f601", "wire type 6"),
        ("fa0105", "ends 5 bytes before"),
        ("00" * 401, "401 bytes, at most 400"),
    ],
)
def test_what_is_wrong_is_said(encoded: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        OUTER.decode(bytes.fromhex(encoded))


def test_unknown_fields_are_skipped_and_are_not_the_one_encoding() -> None:
    unknown = bytes.fromhex("f00196 01 f101" + "00" * 8 + "f20103616263 f50100000000")
    data = bytes.fromhex("0805 5200") + unknown
    assert OUTER.decode(data) == Outer(i32=5)
    with pytest.raises(ValueError, match="not the one encoding of Outer"):
        OUTER.decode_exact(data)


def test_zeros_that_are_written_and_long_varints_are_read() -> None:
    """As other encoders may write them; a run of numbers one by one, too."""
    assert OUTER.decode(bytes.fromhex("0800 4200 8a0100 5801 5802 5a0103")) == Outer(packed=(1, 2, 3))
    assert OUTER.decode(bytes.fromhex("88 00 85 00")) == Outer(i32=5)


def test_a_budget_of_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_reader, "FIELDS_MAX", 3)
    assert OUTER.decode(bytes.fromhex("4a020801 5200")) == Outer(maybe=Inner(1))
    with pytest.raises(ValueError, match="more than 3 fields"):
        OUTER.decode(bytes.fromhex("4a020801 5200 f001 00"))


@pytest.mark.parametrize(
    ("encoded", "says"),
    [("", "Either: none of the kinds"), ("1800", "wire type 0"), ("0a001a00", "more than one"), ("2200", "none")],
)
def test_a_choice_is_one_of_its_kinds(encoded: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        EITHER.decode(bytes.fromhex(encoded))


@pytest.mark.parametrize("value", [Outer(i32=2**31), Outer(u32=-1), Outer(i64=2**63), Outer(u64=2**64)])
def test_numbers_that_do_not_fit_are_not_encoded(value: Outer) -> None:
    with pytest.raises(ValueError, match="is not from"):
        OUTER.encode(value)


def test_fixed_numbers_do_not_wrap() -> None:
    with pytest.raises(ValueError, match="does not fit 64 bits"):
        OUTER.encode(Outer(fixed=2**63))
