"""Parking: what may wait for cores to come, by owner and sender, in messages and in bytes; nobody is blamed for it."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.kernel import Core, Host, ParkingLimits, Path, Received, Turn
from quorate.kernel.parking import Parking
from quorate.sim.chance import streams

LEFT, RIGHT = ("left", 1), ("right", 1)


class Word(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Some bytes."""

    data: bytes = b""


class Grow(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Spawn a child of this name."""

    name: tuple[str, int]


class Box(Core):
    """Spawns Boxes, and keeps the words that it gets."""

    messages = (Word, Grow)
    parking = ParkingLimits(messages_max=3, size_bytes_max=1000)

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.words: list[tuple[int, bytes]] = []
        self.refused: set[tuple[str, int]] = set()

    def on_word(self, sender: int, message: Word) -> None:
        self.words.append((sender, message.data))

    def on_grow(self, sender: int, message: Grow) -> None:
        self.env.spawn(message.name, Box, upcall=None)

    def awaits(self, path: Path) -> bool:
        return path[len(self.env.path)] not in self.refused


def make(core: Any = Box) -> Host:
    host = Host(core, 1, (1, 2, 3), streams(0))
    host.start(0.0)
    return host


def word(data: bytes, *path: tuple[str, int], sender: int = 2) -> Received:
    return Received(sender, Word(data), path)


def hear(host: Host, *items: Received) -> None:
    """Nothing that is parked or dropped has an effect, least of all a blame."""
    assert host.step(items, 1.0) == Turn()


def grown(host: Host, *path: tuple[str, int]) -> Sequence[tuple[int, bytes]]:
    """The words that a child finds waiting when it comes."""
    hear(host, Received(2, Grow(path[-1]), path[:-1]))
    box = host.cores[path]
    assert isinstance(box, Box)
    return box.words


def test_so_many_messages_of_each_sender_wait_and_no_more() -> None:
    host = make()
    hear(host, *[word(b"%d" % n, LEFT, sender=sender) for n in range(5) for sender in (2, 3)])
    assert grown(host, LEFT) == [(sender, b"%d" % n) for n in range(3) for sender in (2, 3)]
    assert host._parking.dropped == 4


def test_the_limit_is_for_all_the_children_together() -> None:
    host = make()
    hear(host, word(b"a", LEFT), word(b"b", RIGHT), word(b"c", ("far", 9)), word(b"d", LEFT), word(b"e", RIGHT))
    assert grown(host, LEFT) == [(2, b"a")]
    hear(host, word(b"f", RIGHT))  # there is room for one again
    assert grown(host, RIGHT) == [(2, b"b"), (2, b"f")]


def test_bytes_count_as_messages_do() -> None:
    host = make()
    hear(host, word(bytes(600), LEFT), word(bytes(600), LEFT), word(bytes(300), LEFT), word(bytes(300), LEFT))
    hear(host, word(bytes(1001), RIGHT, sender=3), word(bytes(900), RIGHT, sender=3))
    assert [len(data) for _, data in grown(host, LEFT)] == [600, 300]
    assert [len(data) for _, data in grown(host, RIGHT)] == [900], "one that is too large keeps out no other"


def test_each_core_has_its_own_limits_for_what_is_below_it() -> None:
    class Narrow(Box):
        parking = ParkingLimits(messages_max=1)

    class Wide(Box):
        parking = ParkingLimits(messages_max=5)

        def on_grow(self, sender: int, message: Grow) -> None:
            self.env.spawn(message.name, Narrow, upcall=None)

    host = make(Wide)
    hear(host, Received(2, Grow(LEFT)))
    hear(host, *[word(b"%d" % n, LEFT, ("x", 1)) for n in range(3)])
    hear(host, *[word(b"%d" % n, RIGHT, ("x", 1)) for n in range(7)])
    assert grown(host, LEFT, ("x", 1)) == [(2, b"0")]
    hear(host, Received(2, Grow(RIGHT)))
    assert len(host._parking) == 5, "what waits under one core's limits goes on waiting under them"
    assert len(grown(host, RIGHT, ("x", 1))) == 5


def test_the_nearest_core_above_says_whether_one_may_come() -> None:
    host = make()
    root = host.root
    assert isinstance(root, Box)
    root.refused = {("far", 9)}
    hear(host, word(b"a", ("far", 9)), word(b"b", ("far", 9), ("x", 1)), word(b"c", ("far", 8)))
    assert len(host._parking) == 1
    assert host._parking.dropped == 0, "it found room, but nothing to wait for"
    hear(host, Received(2, Grow(LEFT)), word(b"d", LEFT, ("far", 9)))
    assert len(host._parking) == 2, "the root is not asked about what is below another"


def test_what_waits_for_a_path_that_is_retired_goes() -> None:
    host = make()
    hear(host, Received(2, Grow(LEFT)))
    hear(host, word(b"a", LEFT, ("x", 1)), word(b"b", LEFT, ("y", 1), ("z", 1)), word(b"c", RIGHT))
    host.root.env.retire(LEFT)
    assert len(host._parking) == 1
    hear(host, word(b"d", LEFT, ("x", 1)), word(b"e", LEFT))
    assert len(host._parking) == 1
    assert host._parking.dropped == 0


def test_who_is_not_a_member_has_nothing_waiting() -> None:
    host = make()
    turn = host.step([word(b"a", LEFT, sender=9)], 1.0)
    assert [blame.node for blame in turn.blames] == [9]
    assert len(host._parking) == 0


@pytest.mark.parametrize("limits", [ParkingLimits(messages_max=0), ParkingLimits(size_bytes_max=0)])
def test_limits_of_nothing_park_nothing(limits: ParkingLimits) -> None:
    parking = Parking()
    assert not parking.park((LEFT,), 2, Word(b"a"), (), limits)
    assert (len(parking), parking.dropped, parking.claim((LEFT,))) == (0, 1, [])


def test_a_message_that_no_codec_knows_is_measured_all_the_same() -> None:
    parking = Parking()
    assert parking.park((LEFT,), 2, object(), (), ParkingLimits())
    assert not parking.park((LEFT,), 2, {"set": {1, 2}, "what": object}, (), ParkingLimits(size_bytes_max=20))


OWNERS: tuple[Path, ...] = ((), (LEFT,))
LIMITS = ParkingLimits(messages_max=4, size_bytes_max=40)
moves = st.lists(
    st.tuples(
        st.sampled_from(["park", "park", "park", "claim", "below", "leave"]),
        st.integers(0, 1),
        st.sampled_from([(LEFT,), (LEFT, ("x", 1)), (RIGHT,), (RIGHT, ("x", 1))]),
        st.integers(0, 20),
        st.sampled_from(OWNERS),
    ),
    max_size=60,
)


@given(moves)
def test_what_waits_against_a_plain_list(steps: list[tuple[str, int, Path, int, Path]]) -> None:
    parking = Parking()
    model: list[tuple[Path, int, Word, Path]] = []
    for verb, sender, path, size, owner in steps:
        message = Word(bytes(size))
        if verb == "park":
            mine = [len(msgspec.msgpack.encode(w)) for _, s, w, o in model if (s, o) == (sender, owner)]
            fits = len(mine) < 4 and sum(mine) + len(msgspec.msgpack.encode(message)) <= 40
            assert parking.park(path, sender, message, owner, LIMITS) is fits
            if fits:
                model.append((path, sender, message, owner))
        elif verb == "claim":
            assert parking.claim(path) == [Received(s, w, p) for p, s, w, _ in model if p == path]
            model = [each for each in model if each[0] != path]
        elif verb == "below":
            found = parking.claim_below(path)
            below = [each for each in model if each[0][: len(path)] == path]
            assert sorted(found, key=repr) == sorted([Received(s, w, p) for p, s, w, _ in below], key=repr)
            model = [each for each in model if each not in below]
        else:
            top = path[:1] if size % 2 else ()
            parking.drop_from(sender, top)
            model = [each for each in model if each[1] != sender or each[0][: len(top)] != top]
        assert len(parking) == len(model)
        assert sum(held.size_bytes for held in parking._held.values()) == sum(
            len(msgspec.msgpack.encode(w)) for _, _, w, _ in model
        )
