"""Which peer is asked for which block: one at a time, the next when it has had its time, and few at once."""

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.protocols.nakamoto.bodies import Bodies

A, B, C = b"a", b"b", b"c"


def test_each_is_asked_of_one_peer_and_then_of_the_next() -> None:
    bodies = Bodies(retry_s=1.0, asked_max=8)
    for peer in (2, 3):
        bodies.want(A, peer)
    bodies.want(B, 3)
    assert bodies.due(0.0) == {2: [A], 3: [B]}
    assert bodies.due(0.9) == {}
    assert bodies.due(1.0) == {3: [A, B]}
    assert bodies.due(2.0) == {2: [A], 3: [B]}
    bodies.got(A)
    bodies.got(A)
    assert bodies.due(3.0) == {3: [B]}
    assert A not in bodies
    assert B in bodies
    bodies.forget([B])
    assert len(bodies) == 0


def test_a_peer_is_asked_for_few_at_once() -> None:
    bodies = Bodies(retry_s=1.0, asked_max=2)
    for id in (A, B, C):
        bodies.want(id, 2)
    assert bodies.due(0.0) == {2: [A, B]}
    bodies.got(A)
    assert bodies.due(0.1) == {2: [C]}
    bodies.want(A, 2)
    bodies.want(A, 3)
    assert bodies.due(0.2) == {3: [A]}, "the other one is free"


def test_what_was_not_it_is_asked_of_another() -> None:
    bodies = Bodies(retry_s=1.0, asked_max=1)
    bodies.want(A, 2)
    bodies.want(A, 3)
    bodies.due(0.0)
    bodies.refuse(A, 4)
    bodies.refuse(B, 2)
    bodies.refuse(A, 2)
    assert bodies.due(0.1) == {3: [A]}
    bodies.refuse(A, 3)
    assert A not in bodies
    bodies.want(B, 2)
    assert bodies.due(0.2) == {2: [B]}, "its first request is over"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 3)), max_size=60))
def test_no_peer_is_asked_for_more_than_it_may(steps: list[tuple[int, int, int]]) -> None:
    bodies, now = Bodies(retry_s=1.0, asked_max=2), 0.0
    asked: dict[bytes, tuple[int, float]] = {}
    for act, number, peer in steps:
        id = b"%d" % number
        if act <= 1:
            bodies.want(id, peer)
        elif act == 2:
            bodies.got(id)
            asked.pop(id, None)
        elif act == 3:
            bodies.refuse(id, peer)
            if asked.get(id, (None, 0.0))[0] == peer or id not in bodies:
                asked.pop(id, None)
        else:
            now += 0.4
            asked = {each: (who, at) for each, (who, at) in asked.items() if now < at + 1.0}
            for who, ids in bodies.due(now).items():
                for each in ids:
                    assert each not in asked, "it is asked of one at a time"
                    asked[each] = (who, now)
            for who in range(4):
                assert sum(each == who for each, _ in asked.values()) <= 2
