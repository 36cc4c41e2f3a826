"""Configurations as bytes, and which nodes there are by the changes that were decided."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.parts.log.configuration import (
    ADDRESS_CHARACTERS_MAX,
    FOUNDERS_ALONE,
    KEY_BYTES_MAX,
    MEMBERS_MAX,
    NEWCOMERS_MAX,
    PREFIX,
    SECRET_BYTES_MAX,
    Change,
    Invitation,
    Newcomer,
    NodePlace,
    Nodes,
    decode_change,
    encode_change,
    invitation_lock,
    is_join,
)

ADDRESS = st.text(min_size=1, max_size=9)
NUMBER = st.integers(0, 1023)
FOUNDERS = (1, 2, 3)
FOUR, FIVE = Newcomer(4, "n4:1", b"key of 4"), Newcomer(5, "n5:1", b"key of 5")


def change(*members: int, newcomers: tuple[Newcomer, ...] = (), leavers: tuple[int, ...] = ()) -> Change:
    return Change(members, None, newcomers, leavers)


# --- as bytes ---


def test_without_newcomers_and_leavers_the_encoding_is_what_it_was() -> None:
    assert encode_change((3, 1, 1)) == PREFIX + msgspec.msgpack.encode(((1, 3), None))
    assert encode_change((1, 2), 7) == PREFIX + msgspec.msgpack.encode(((1, 2), 7))
    assert decode_change(encode_change((3, 1), 7)) == Change((1, 3), 7)


@given(
    st.lists(NUMBER, min_size=1, max_size=9),
    st.none() | st.integers(0, 2**62 - 1),  # as a Natural
    st.lists(st.builds(Newcomer, NUMBER, ADDRESS, st.binary(max_size=64), st.booleans()), max_size=3),
    st.lists(NUMBER, max_size=3),
    st.lists(st.builds(Invitation, NUMBER, st.binary(min_size=16, max_size=64), st.booleans()), max_size=3),
    st.lists(st.builds(NodePlace, NUMBER, ADDRESS, ADDRESS, st.binary(max_size=64)), max_size=3),
    st.binary(max_size=64),
)
def test_what_is_encoded_is_decoded(
    members: list[int],
    epoch: int | None,
    newcomers: list[Newcomer],
    leavers: list[int],
    invitations: list[Invitation],
    places: list[NodePlace],
    secret: bytes,
) -> None:
    found = decode_change(encode_change(members, epoch, newcomers, leavers, invitations, places, secret))
    sets = tuple(sorted(set(members))), tuple(sorted(set(leavers)))
    assert found == Change(sets[0], epoch, tuple(newcomers), sets[1], tuple(invitations), tuple(places), secret)


def test_who_came_by_the_change_of_an_earlier_release_has_state() -> None:
    """Its encoding had no word of witnesses, in values and in what records and messages have of nodes."""
    said = (1,), None, ((4, "n:1", b""),), (), ((5, bytes(32)),), (), b""
    found = decode_change(PREFIX + msgspec.msgpack.encode(said))
    assert found == Change((1,), None, (Newcomer(4, "n:1"),), (), (Invitation(5, bytes(32)),))
    old = msgspec.msgpack.encode((((4, "n:1", b""),), (), ((5, bytes(32)),), ()))
    nodes = msgspec.msgpack.decode(old, type=Nodes)
    assert nodes == Nodes((Newcomer(4, "n:1"),), (), (Invitation(5, bytes(32)),))
    assert nodes.witnesses == ()


@pytest.mark.parametrize(
    "said",
    [
        ((), None),
        ((1,), -1),
        ((1,), None, ((1024, "n:1", b""),), ()),
        ((1,), None, ((4, "", b""),), ()),
        ((1,), None, ((4, "n:1", b"", 1),), ()),
        ((1,), None, ((4, "n" * (ADDRESS_CHARACTERS_MAX + 1), b""),), ()),
        ((1,), None, ((4, "n:1", bytes(KEY_BYTES_MAX + 1)),), ()),
        ((1,), None, ((4, "n:1", b""),) * (NEWCOMERS_MAX + 1), ()),
        ((1,), None, (), tuple(range(MEMBERS_MAX + 1))),
        ((1,), None, (), (), ((4, b"short"),), (), b""),
        ((1,), None, (), (), ((4, bytes(32)),) * (NEWCOMERS_MAX + 1), (), b""),
        ((1,), None, (), (), (), ((4, "n:1", "", b""),), b""),
        ((1,), None, (), (), (), ((4, "n:1", "n:2", bytes(65)),), b""),
        ((1,), None, (), (), (), (), bytes(SECRET_BYTES_MAX + 1)),
        ((1,), None, (), (), (), (), b"", ()),
    ],
    ids=repr,
)
def test_what_is_broken_or_too_large_is_none(said: Any) -> None:
    assert decode_change(PREFIX + msgspec.msgpack.encode(said)) is None


def test_what_is_too_much_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="at most 8 nodes"):
        encode_change((1,), None, [FOUR] * (NEWCOMERS_MAX + 1))
    with pytest.raises(ValueError, match="takes leave of 64"):
        encode_change((1,), None, [], range(MEMBERS_MAX + 1))


# --- which nodes there are ---


def test_nodes_come_and_go() -> None:
    nodes = FOUNDERS_ALONE
    assert nodes.numbers(FOUNDERS) == {1, 2, 3}
    joined = nodes.after(change(1, 2, 3, newcomers=(FOUR,)))
    assert joined.numbers(FOUNDERS) == {1, 2, 3, 4}
    left = joined.after(change(2, 3, 4, newcomers=(FIVE,), leavers=(1,)))
    assert left == Nodes((FOUR, FIVE), (1,))
    assert left.numbers(FOUNDERS) == {2, 3, 4, 5}
    assert left.after(change(2, 3)) is left
    assert (bool(nodes), bool(joined), bool(left)) == (False, True, True)


STATE = Nodes((FOUR,), (1,))


@pytest.mark.parametrize(
    "fits",
    [
        change(2, 3),
        change(2, 3, 4),
        change(2, 3, newcomers=(FIVE,)),
        change(5, newcomers=(FIVE,)),
        change(3, leavers=(2, 4)),
        change(2, 5, newcomers=(FIVE,), leavers=(3,)),
    ],
    ids=repr,
)
def test_what_fits(fits: Change) -> None:
    assert STATE.takes(fits, FOUNDERS)


@pytest.mark.parametrize(
    "wrong",
    [
        change(1, 2, 3),
        change(2, 9),
        change(2, newcomers=(FOUR,)),
        change(2, newcomers=(Newcomer(2, "n2:1"),)),
        change(2, newcomers=(Newcomer(1, "n1:1"),)),
        change(2, newcomers=(FIVE, FIVE)),
        change(2, leavers=(1,)),
        change(2, leavers=(9,)),
        change(2, 3, leavers=(3,)),
        change(2, 5, newcomers=(FIVE,), leavers=(5,)),
    ],
    ids=[
        *(
            "a member that left",
            "a member that never was",
            "who is here already",
            "a founder",
            "a number that was used",
        ),
        *("twice", "who has left", "who never was", "who stays", "who comes"),
    ],
)
def test_what_does_not_fit(wrong: Change) -> None:
    assert not STATE.takes(wrong, FOUNDERS)


def test_what_cannot_have_come_of_changes() -> None:
    assert STATE.may_be(FOUNDERS)
    assert Nodes((FOUR,), (4, 1)).may_be(FOUNDERS)
    assert not Nodes((FOUR, FOUR)).may_be(FOUNDERS)
    assert not Nodes((Newcomer(2, "n2:1"),)).may_be(FOUNDERS)
    assert Nodes((FOUR,), (1,), (Invitation(5, LOCK),), (NodePlace(4, "n4:1", "n4:2"),)).may_be(FOUNDERS)
    assert not Nodes((FOUR,), (), (Invitation(4, LOCK),)).may_be(FOUNDERS)
    assert not Nodes((FOUR,), (), (Invitation(5, LOCK), Invitation(5, LOCK))).may_be(FOUNDERS)
    assert not Nodes((), (1,), (), (NodePlace(1, "n1:1", "n1:2"),)).may_be(FOUNDERS)
    assert not Nodes((), (), (), (NodePlace(2, "n2:1", "n2:2"), NodePlace(2, "n2:1", "n2:3"))).may_be(FOUNDERS)


# --- who is invited, and where nodes are ---

SECRET = b"known to the one that joins"
LOCK = invitation_lock(SECRET)
INVITED = Nodes((FOUR,), (1,), (Invitation(5, LOCK),))
AT_5 = NodePlace(5, "n5:1", "n5:2", b"folder of 5")


def told(**changes: Any) -> Change:
    return change(2, 3)._replace(epoch=7, **changes)


def test_an_invitation_is_used_once() -> None:
    joined = INVITED.after(told(newcomers=(FIVE,), places=(AT_5,), secret=SECRET))
    assert joined == Nodes((FOUR, FIVE), (1,), (), (AT_5,))
    assert not joined.takes(told(newcomers=(FIVE,), places=(AT_5,), secret=SECRET), FOUNDERS)
    assert not joined.takes(told(invitations=(Invitation(5, LOCK),)), FOUNDERS), "its number is used"
    left = joined.after(told(leavers=(5,)))
    assert left == Nodes((FOUR, FIVE), (1, 5))
    assert not left.takes(told(invitations=(Invitation(5, LOCK),)), FOUNDERS)


def test_another_invitation_takes_the_place_of_one_that_was_lost() -> None:
    again = INVITED.after(told(invitations=(Invitation(5, invitation_lock(b"other")),)))
    assert again.invited == (Invitation(5, invitation_lock(b"other")),)
    assert not again.takes(told(newcomers=(FIVE,), secret=SECRET), FOUNDERS)
    assert again.takes(told(newcomers=(FIVE,), secret=b"other"), FOUNDERS)


def test_one_that_was_withdrawn_opens_nothing() -> None:
    withdrawn = INVITED.after(told(leavers=(5,)))
    assert withdrawn == Nodes((FOUR,), (1, 5))
    assert not withdrawn.takes(told(newcomers=(FIVE,), secret=SECRET), FOUNDERS)


def test_a_node_that_moved_keeps_its_folder() -> None:
    joined = INVITED.after(told(newcomers=(FIVE,), places=(AT_5,)))
    moved = joined.after(told(places=(NodePlace(5, "m5:1", "m5:2"),)))
    assert moved.place(5) == NodePlace(5, "m5:1", "m5:2", b"folder of 5")
    assert moved.place(4) is None
    founder = moved.after(told(places=(NodePlace(2, "m2:1", "m2:2"),)))
    assert [place.node for place in founder.places] == [2, 5]


@pytest.mark.parametrize(
    "wrong",
    [
        told(invitations=(Invitation(4, LOCK),)),
        told(invitations=(Invitation(2, LOCK),)),
        told(invitations=(Invitation(1, LOCK),)),
        told(invitations=(Invitation(6, LOCK), Invitation(6, LOCK))),
        told(invitations=(Invitation(5, LOCK),), leavers=(5,)),
        told(newcomers=(FIVE,), secret=b"another"),
        told(newcomers=(Newcomer(6, "n6:1"),), secret=SECRET),
        told(places=(AT_5,)),
        told(places=(NodePlace(1, "n1:1", "n1:2"),)),
        told(places=(NodePlace(2, "n2:1", "n2:2"),) * 2),
        told(places=(NodePlace(4, "n4:1", "n4:2"),), leavers=(4,)),
    ],
    ids=[
        *("one that is here", "a founder", "one that left", "twice", "withdrawn at once", "another's secret"),
        *("another's invitation", "a place of nobody", "of one that left", "two places", "of one that leaves"),
    ],
)
def test_what_fits_no_invitation_or_place(wrong: Change) -> None:
    assert not INVITED.takes(wrong, FOUNDERS)


def test_who_is_invited_may_join_and_nothing_else() -> None:
    right = told(newcomers=(FIVE,), places=(AT_5,))
    assert is_join(right, INVITED, (2, 3), LOCK)
    for wrong in (
        right._replace(epoch=None),
        right._replace(members=(2, 3, 5)),
        right._replace(members=(2,)),
        right._replace(leavers=(4,)),
        right._replace(invitations=(Invitation(6, LOCK),)),
        right._replace(newcomers=(FIVE, Newcomer(6, "n6:1"))),
        right._replace(newcomers=(Newcomer(6, "n6:1"),)),
        right._replace(newcomers=()),
        right._replace(places=(AT_5, NodePlace(2, "n2:1", "n2:2"))),
    ):
        assert not is_join(wrong, INVITED, (2, 3), LOCK), wrong
    assert not is_join(right, INVITED, (2, 3), bytes(32))
    assert not is_join(right, FOUNDERS_ALONE, (2, 3), LOCK)
