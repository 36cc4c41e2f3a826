"""The codec and recovery by inputs: its records come back, and so do hosts; what would not is never written."""

from typing import Any

import msgspec
import pytest

from quorate.kernel import (
    Began,
    Core,
    Done,
    Failed,
    Fired,
    Handed,
    Known,
    Met,
    Misbehaved,
    Parted,
    Received,
    Record,
    Settled,
    Spawned,
    Stalled,
    Started,
    Stepped,
    Unmet,
)
from quorate.runtime.codec import WHY_CHARACTERS_MAX, Codec, MalformedMessage

from tests.kernel.test_replay import Crashing, CrashingOpen, CrashingWhole, CrashingWholeOpen, machine
from tests.kernel.trees import Counted, Deliver, Draw, Office, Say

CODEC = Codec(Office)
DESK = (("shelf", 0), ("desk", 1))
NESTED = Say(7, (Draw(), Deliver(Say(8))))


def again(*records: Record) -> list[Record]:
    return CODEC.decode_records(CODEC.encode_records(records))


@pytest.mark.parametrize(
    "item",
    [
        Received(3, NESTED, DESK),
        Handed(NESTED, DESK),
        Handed(b"bytes", DESK),
        Handed(None, DESK),
        Done("own", Counted(9), DESK),
        Done("bytes", b"found", DESK),
        Done("number", 2.5, DESK),
        Done("failed", Failed("no"), DESK),
        Fired(("slot", 1), DESK),
        Stalled("disk full"),
        Met(1023, b"\0" * 32, "host:1", outbound=False),
        Parted(5, "x" * 100_000),
        Unmet("host:1", "x" * 100_000),
        Misbehaved(5, "x" * 100_000),
        Started(),
        Settled(),
        Known((0, 1023)),
        Known(()),
    ],
)
def test_every_input_comes_back(item: Any) -> None:
    record = Record(DESK, Stepped(1.5, (item,), wall_ns=-1))
    assert again(record) == [record]
    assert type(again(record)[0].value.inputs[0]) is type(item)


@pytest.mark.parametrize(
    "value",
    [
        Spawned(b"s" * 16, (1, 2, 3), 1.5, 2**62),
        Spawned(b"", (), -1.0, 0),
        Began(1.5, 7, b"seed"),
        Stepped(2.0, (), start=True, wall_ns=3, seed=b"seed"),
        Stepped(2.0, (Started(), Settled(), Known((1,)), Handed(NESTED, DESK))),
    ],
)
def test_every_record_of_the_kernel_comes_back(value: Any) -> None:
    record = Record(DESK, value)
    assert again(record, record) == [record, record]
    assert type(again(record)[0].value) is type(value)


class Unnamed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Nobody names it."""


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (Done("own", Unnamed(), DESK), "ended in a Unnamed"),
        (Done("own", (b"a", b"b"), DESK), "ended in a tuple"),
        (Done("own", "text", DESK), "ended in a str"),
        (Handed(Unnamed(), DESK), "was handed a Unnamed"),
        (Handed(Counted(1), DESK), "was handed a Counted"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(item: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        CODEC.encode_records([Record(DESK, Stepped(1.0, (item,)))])


@pytest.mark.parametrize("path", [(), DESK])
def test_an_error_says_little_of_what_a_stranger_sent(path: Any) -> None:
    with pytest.raises(MalformedMessage) as caught:
        CODEC.decode_message(msgspec.msgpack.encode((path, ("x" * 100_000, 1))))
    assert len(str(caught.value)) < WHY_CHARACTERS_MAX + 50


def test_a_record_may_not_have_the_name_of_one_of_the_kernels() -> None:
    taken = msgspec.defstruct("Spawned", [("x", int)], tag=True, array_like=True)

    class Clash(Core):
        records = (taken,)

    with pytest.raises(TypeError, match="make no codec"):
        Codec(Clash)


def through_bytes(crashing: type[Crashing], examples: int = 5) -> Any:
    """Hosts that are restored from what a journal holds, and compared with what never was bytes."""

    class Coded(crashing):  # type: ignore[valid-type,misc]
        def _note(self, records: Any) -> None:
            assert again(*records) == list(records)
            super()._note(again(*records))

        def _restored(self, records: Any) -> Any:
            return super()._restored(again(*records))

    return machine(Coded, examples)


TestSubtrees = through_bytes(Crashing)
TestSubtreesOfAnOpenRoster = through_bytes(CrashingOpen)
TestWholeHosts = through_bytes(CrashingWhole)
TestWholeHostsOfAnOpenRoster = through_bytes(CrashingWholeOpen)

TestSubtreesAtLength = pytest.mark.slow(through_bytes(Crashing, 30))
TestSubtreesOfAnOpenRosterAtLength = pytest.mark.slow(through_bytes(CrashingOpen, 30))
TestWholeHostsAtLength = pytest.mark.slow(through_bytes(CrashingWhole, 30))
TestWholeHostsOfAnOpenRosterAtLength = pytest.mark.slow(through_bytes(CrashingWholeOpen, 30))
