"""Codec: every message and record comes back equal; nothing but MalformedMessage comes of bad bytes."""

import importlib
import pkgutil
import random
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quorate.protocols
from quorate.kernel import (
    Asked,
    Core,
    Done,
    Failed,
    Fired,
    Handed,
    Host,
    Met,
    Misbehaved,
    Parted,
    Path,
    Received,
    Record,
    Settled,
    Stalled,
    Stepped,
    Submitted,
    Unmet,
)
from quorate.parts.crypto.keys import Verified
from quorate.parts.log.replicated import SnapshotInfo
from quorate.runtime.codec import Codec, MalformedMessage
from quorate.sim.chance import streams

from tests.runtime.lottery import Bet, Chip, Hall, Weighed
from tests.wire.harness import Kept, Note, Root, Whisper
from tests.wire.strategies import msgpack_values, values_of

CODEC = Codec(Root)
PATHS = st.lists(st.tuples(st.text(max_size=32), st.integers(0, 2**63 - 1)), max_size=8).map(tuple)


def core_classes() -> list[type[Core]]:
    """The test core, and a core class of the package's protocols for each family of messages and records."""
    found: list[type[Core]] = [Root]
    families = {(Root.messages, Root.records)}
    for module_info in pkgutil.walk_packages(quorate.protocols.__path__, "quorate.protocols."):
        module = importlib.import_module(module_info.name)
        for value in vars(module).values():
            if not isinstance(value, type) or not issubclass(value, Core):
                continue
            family = (value.messages, value.records)
            if any(family) and family not in families:
                families.add(family)
                found.append(value)
    return found


EACH_CORE = pytest.mark.parametrize("core", core_classes(), ids=lambda core: core.__name__)


@EACH_CORE
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_messages_and_records_come_back_equal(core: type[Core], data: st.DataObject) -> None:
    come_back_equal(core, data)


@pytest.mark.slow
@EACH_CORE
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_many_messages_and_records_come_back_equal(core: type[Core], data: st.DataObject) -> None:
    come_back_equal(core, data)


def come_back_equal(core: type[Core], data: st.DataObject) -> None:
    codec = Codec(core)
    path = data.draw(PATHS)
    for kind in codec.messages:
        message = data.draw(values_of(kind))
        back = codec.decode_message(codec.encode_message(path, message))
        assert back == (path, message)
        assert type(back[1]) is kind
    for kind in codec.records:
        records = [Record(path, value) for value in data.draw(st.lists(values_of(kind), max_size=3))]
        assert codec.decode_records(codec.encode_records(records)) == records


def test_a_family_has_each_type_once() -> None:
    assert CODEC.messages == (Note, Whisper)
    assert CODEC.records == (Kept, Note, Whisper)


def test_recovery_by_inputs_restores_a_host() -> None:
    codec = Codec(Root)
    host = Host(Root, 0, [0, 1], streams(1), by_inputs=True)
    turn = host.step([Received(1, Note(7, "x", (b"y",))), Received(1, Note(8), (("later", 1),))], 1.5)
    frame = codec.encode_records(turn.records)
    again = Host(Root, 0, [0, 1], streams(1), by_inputs=True)
    for record in codec.decode_records(frame):
        again.restore(record)
    assert again.root.got == host.root.got == [(1, Note(7, "x", (b"y",)))]  # type: ignore[attr-defined]
    assert codec.decode_records(frame) == turn.records


@pytest.mark.parametrize(
    "item",
    [
        Received(3, Chip(5), (("a", 1), ("b", 2**63 - 1))),
        Submitted((b"", b"x"), (("a", 1),)),
        Asked((1, 2)),
        Fired("election"),
        Fired(("slot", 3), (("a", 1),)),
        Done("snapshot", SnapshotInfo(1, 2, 3)),
        Done(("sign", 4), b"signature"),
        Done("mine", Failed("gone")),
        Done("nothing", None),
        Done("weighed", Weighed(7)),
        Done("verified", Verified(5)),
        Done("yes", True),
        Handed(Bet(b"x"), (("game", 1),)),
        Handed(7, (("game", 1),)),
        Stalled("disk full"),
        Stalled(None),
        Met(3, b"key", "host:1", True),
        Parted(3, "left"),
        Unmet("host:1", "nobody is there"),
        Misbehaved(3, "sent nonsense"),
        Settled(),
    ],
)
def test_every_input_comes_back_as_the_host_knows_it(item: Any) -> None:
    codec = Codec(Hall)
    stepped = Stepped(2.5, (item,), True, 10**18, b"seed")
    (record,) = codec.decode_records(codec.encode_records([Record((), stepped)]))
    assert record.value == stepped
    assert type(record.value.inputs[0]) is type(item)
    assert type(record.value.inputs) is tuple


class Unnamed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """No core says that it ends in this."""


@pytest.mark.parametrize("value", [Unnamed(), "text", (1, 2), [b"x"], {}])
def test_a_result_that_could_not_be_read_again_is_not_written(value: Any) -> None:
    """A journal that cannot be decoded is found at the restart, when it is too late."""
    for item, cure in ((Done(("weigh", 1), value), "results"), (Handed(value, (("game", 1),)), "handed")):
        with pytest.raises(TypeError, match=f"name it in the core's {cure}"):
            Codec(Hall).encode_records([Record((), Stepped(1.0, (Fired("t"), item)))])


TOO_DEEP: Path = tuple(("a", level) for level in range(9))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ((), Note(-1)),
        ((), Note(2**62)),
        ((), Note(1, "x" * 17)),
        ((), Note(1, "", (b"",) * 9)),
        ((), Kept(1)),  # a record, no message
        (TOO_DEEP, Note(1)),
        ((("x" * 33, 1),), Note(1)),
        ((("x", -1),), Note(1)),
        ((("x", 2**63),), Note(1)),
    ],
)
def test_limits_of_the_types_hold(path: Path, message: Any) -> None:
    with pytest.raises(MalformedMessage):
        CODEC.decode_message(CODEC.encode_message(path, message))


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=200), msgpack_values()))
def test_bytes_are_a_message_or_malformed(data: bytes) -> None:
    for decode in (CODEC.decode_message, CODEC.decode_records):
        with suppress(MalformedMessage):
            decode(data)


def test_mutated_bytes_are_a_message_or_malformed() -> None:
    chance = random.Random(7)
    inputs = (Received(1, Note(3, "é", (b"q",))), Done("k", SnapshotInfo(1, 2, 3)), Stalled("full"))
    seeds = [
        CODEC.encode_message((("slot", 9),), Note(1, "text", (b"a", b"b"))),
        CODEC.encode_records([Record((), Stepped(1.0, inputs)), Record((), Kept(1, 2))]),
    ]
    malformed = 0
    for _ in range(20_000):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.getrandbits(8)
        for decode in (CODEC.decode_message, CODEC.decode_records):
            try:
                decode(bytes(data[: chance.randint(0, 2 * len(data))]))
            except MalformedMessage:
                malformed += 1
    assert malformed > 20_000  # at least the half that went to the wrong decoder


@pytest.mark.parametrize(
    "data",
    [b"\x92" + b"\x91" * 100_000, b"\x92\x90\xdd\xff\xff\xff\xff", b"\xc1", b"\x92\x90\x92\xa4Note\xcf" + b"\xff" * 8],
    ids=["nested", "long", "reserved", "uint64"],
)
def test_wicked_bytes_are_malformed(data: bytes) -> None:
    for decode in (CODEC.decode_message, CODEC.decode_records):
        with pytest.raises(MalformedMessage):
            decode(data)


def test_two_types_of_one_name_are_refused() -> None:
    other = msgspec.defstruct("Note", [("x", int)], tag=True, array_like=True)

    class Clash(Core):
        messages = (other,)
        children = (Root,)

        def on_note(self, sender: int, message: Any) -> None: ...

    with pytest.raises(TypeError, match="two types Note"):
        Codec(Clash)


def test_types_without_tags_are_refused() -> None:
    first = msgspec.defstruct("First", [("x", int)], array_like=True)
    second = msgspec.defstruct("Second", [("x", int)], array_like=True)

    class Untagged(Core):
        records = (first, second)

    with pytest.raises(TypeError, match="make no codec"):
        Codec(Untagged)


def test_a_core_without_messages_takes_none() -> None:
    class Silent(Core):
        pass

    codec = Codec(Silent)
    assert codec.messages == ()
    with pytest.raises(MalformedMessage):
        codec.decode_message(CODEC.encode_message((), Note(1)))
    assert codec.decode_records(codec.encode_records([])) == []
