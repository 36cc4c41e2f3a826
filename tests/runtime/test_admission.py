"""Admission: bytes are what counts, clients share, and whoever was refused is not overtaken for ever."""

from collections.abc import Sequence

import pytest

from quorate.runtime.admission import PLACE_S, REQUEST_OVERHEAD_BYTES, REQUESTS_MAX, WAIT_S, Admission

MIB = 1 << 20
LARGE = 1_400_000


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def room(clock: Clock) -> Admission:
    return Admission(64 * MIB, clock)


def fill(room: Admission, client: str, size_bytes: int) -> int:
    """Until it is refused; how many were taken in."""
    count = 0
    while room.take(client, size_bytes):
        count += 1
    return count


def test_what_is_taken_in_is_bounded_in_bytes_and_in_number(room: Admission) -> None:
    for client in range(200):
        room.take(str(client), LARGE)
    assert room.cost_bytes <= 64 * MIB
    assert room.cost_bytes // (LARGE + REQUEST_OVERHEAD_BYTES) >= 45


def test_small_requests_are_bounded_in_number(room: Admission) -> None:
    taken = sum(room.take(str(client), 10) for client in range(2 * REQUESTS_MAX))
    assert taken == REQUESTS_MAX


def test_one_client_never_takes_more_than_half_and_the_next_half_of_what_is_left(room: Admission) -> None:
    size_bytes = 65_536 - REQUEST_OVERHEAD_BYTES
    assert [fill(room, client, size_bytes) for client in ("a", "b", "c")] == [512, 256, 127], "two stand in line"


def test_greedy_clients_share_alike_however_many_they_are(room: Admission) -> None:
    size_bytes = 65_536 - REQUEST_OVERHEAD_BYTES
    counts = dict.fromkeys(range(9), 0)
    for _ in range(1000):
        for client in counts:
            counts[client] += room.take(client, size_bytes)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert 900 <= sum(counts.values()) <= 1024


def test_what_is_done_makes_room_and_so_does_a_client_that_has_left(room: Admission) -> None:
    for _ in range(3):
        assert room.take("a", LARGE)
    room.done("a", LARGE)
    assert room.cost_bytes == 2 * (LARGE + REQUEST_OVERHEAD_BYTES)
    room.left("a")
    room.left("a")
    assert room.cost_bytes == 0


def test_a_request_that_is_larger_than_all_goes_alone(clock: Clock) -> None:
    room = Admission(1000, clock)
    assert room.take("a", LARGE)
    assert not room.take("b", 1)
    room.done("a", LARGE)
    assert room.take("b", 1)


def full(clock: Clock) -> Admission:
    """Ten clients hold one large request each, and there is no room for another."""
    room = Admission(10 * (LARGE + REQUEST_OVERHEAD_BYTES), clock)
    assert all(room.take(f"in {number}", LARGE) for number in range(10))
    return room


def test_whoever_was_refused_is_not_overtaken(clock: Clock) -> None:
    room = full(clock)
    assert not room.take("first", LARGE)
    assert not room.take("second", LARGE)
    room.done("in 0", LARGE)
    assert not room.take("in 0", LARGE), "it was just answered"
    assert not room.take("second", LARGE)
    assert room.take("first", LARGE)
    room.done("in 1", LARGE)
    assert room.take("second", LARGE)


def test_a_place_in_line_is_lost_with_time_or_with_the_client(clock: Clock) -> None:
    room = full(clock)
    assert not room.take("gone", LARGE)
    assert not room.take("asleep", LARGE)
    room.left("gone")
    room.done("in 0", LARGE)
    assert not room.take("in 0", LARGE)
    clock.now += 1.1 * PLACE_S
    assert room.take("another", LARGE)


def test_at_twice_the_capacity_everybody_gets_the_same(clock: Clock) -> None:
    """Twenty clients for ten places; each tries again 0.2 s after a refusal, and at once after an answer."""
    room = Admission(10 * (LARGE + REQUEST_OVERHEAD_BYTES), clock)
    answered = dict.fromkeys(range(20), 0)
    retry_at = dict.fromkeys(range(20), 0.0)
    inside: list[int] = []
    for step in range(4000):
        clock.now = step * 0.01
        if step % 10 == 0 and inside:
            done = inside.pop(0)
            room.done(done, LARGE)
            answered[done] += 1
            retry_at[done] = clock.now
        for client in answered:
            if client not in inside and clock.now >= retry_at[client]:
                if room.take(client, LARGE):
                    inside.append(client)
                else:
                    retry_at[client] = clock.now + 0.2
    assert sum(answered.values()) >= 380, "hardly any room is left empty while the next one comes back"
    assert min(answered.values()) >= 0.8 * max(answered.values())


# --- time ---


def serve(room: Admission, clock: Clock, per_second: int, seconds: float, before: Sequence[str] = ()) -> list[str]:
    """As many clients as it takes, each with one large request; who is left at the end, after those from before."""
    inside = list(before)
    number = 0
    for _ in range(int(seconds * 100)):
        clock.now += 0.01
        while room.take(client := f"{clock.now} {number}", LARGE):
            inside.append(client)
            number += 1
        room.left(client)  # it goes elsewhere
        for _ in range(per_second // 100):
            if inside:
                room.done(inside.pop(0), LARGE)
    return inside


def test_no_more_is_taken_in_than_is_done_in_time(clock: Clock) -> None:
    room = Admission(512 * MIB, clock)
    serve(room, clock, 300, 5.0)
    assert 0.8 * WAIT_S * 300 <= room.cost_bytes / (LARGE + REQUEST_OVERHEAD_BYTES) <= 1.2 * WAIT_S * 300


def test_it_follows_a_node_that_has_become_faster_or_slower(clock: Clock) -> None:
    room = Admission(512 * MIB, clock)
    inside = serve(room, clock, 200, 5.0)
    slow = room.room_bytes
    inside = serve(room, clock, 600, 5.0, inside)
    assert room.room_bytes >= 2.5 * slow
    serve(room, clock, 200, 5.0, inside)
    assert room.room_bytes <= 1.2 * slow


def test_a_slow_node_takes_in_enough_to_show_what_it_can_do(clock: Clock) -> None:
    room = Admission(512 * MIB, clock)
    for _ in range(20):
        clock.now += 1.0
        assert room.take("a", 10)
        room.done("a", 10)
    assert room.room_bytes == 32 * MIB
    assert Admission(4 * MIB, clock).room_bytes == 4 * MIB
