"""Each generic liar: the Turn that goes in and the Turn that comes out."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from quorate.kernel import Blame, Job, Record, Send, Timer, Turn
from quorate.parts.crypto.keys import Symbolic
from quorate.protocols import REGISTRY
from quorate.protocols.pbft.transfer_liars import LyingSource
from quorate.sim.adversary import GENERIC, parse_adversary
from quorate.sim.adversary.actor import Adversary
from quorate.sim.adversary.clients import Deceiving
from quorate.sim.adversary.liar import HEARD_MAX, Liar, to_others
from quorate.sim.adversary.lies import ByzzFuzz, Equivocating, Forged, Replaying, round_of
from quorate.sim.adversary.mutate import ANYTHING, anything, by_one, changed, passes, places, put_at
from quorate.sim.adversary.omit import Silent, Slow
from quorate.sim.adversary.rounds import RoundPartitions
from quorate.sim.options import OptionsError
from quorate.trials.protocols import equipment_of

from tests.sim.liars import Dice, Vote, hear, means, resign, send, throw, told

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "simulation.md"
A, B = Vote(1, b"a"), Vote(2, b"b")


# --- what every liar leaves alone ---


def test_who_tells_the_truth_changes_nothing() -> None:
    turn = Turn(
        early=[send(A)],
        records=[Record((), A)],
        sends=[send(B, 2)],
        timers=[Timer((), "t", 1.0)],
        jobs=[Job((), "j", A)],
        outputs=["out"],
        blames=[Blame(1, "why")],
    )
    said = Liar(means()).lie(turn)
    assert [(each.to, each.message) for each in said.early] == [((0,), A), ((1, 2, 3), A)]
    assert [(each.to, each.message) for each in said.sends] == [((2,), B)]
    assert said.records == turn.records
    assert (said.timers, said.jobs, said.outputs, said.blames) == (turn.timers, turn.jobs, turn.outputs, turn.blames)


def test_what_a_node_says_to_itself_is_split_off() -> None:
    assert to_others(send(A), 0) == (send(A, 1, 2, 3), send(A, 0))
    assert to_others(send(A, 0), 0) == (None, send(A, 0))
    assert to_others(send(A, 1), 0) == (send(A, 1), None)


@pytest.mark.parametrize("kind", GENERIC)
def test_no_liar_lies_to_itself(kind: type[Liar]) -> None:
    liar = kind(means(with_=resign))
    hear(liar, 1, [B] * 3)
    for seed in range(50):
        throw(liar, *[(seed * 7 + number) % 50 / 50 for number in range(20)])
        assert [message for to, message in told(liar, send(A), send(B, 0)) if 0 in to] == [A, B]


def test_a_part_is_neither_none_nor_all() -> None:
    means_ = means()
    for seed in range(40):
        means_.rng = Dice(*[(seed * 13 + number * 29) % 40 / 40 for number in range(10)])
        assert 1 <= len(means_.some((1, 2, 3))) <= 2
    assert means_.some((1,)) == (1,)
    assert means_.some(()) == ()


def test_what_was_heard_is_bounded() -> None:
    liar = Liar(means())
    hear(liar, 1, [A] * (HEARD_MAX + 5))
    assert len(liar.means.heard) == HEARD_MAX


# --- silent, slow ---


def test_silent_towards_all() -> None:
    means_ = means()
    means_.rng = Dice(0.0)
    silent = Silent(means_)
    assert told(silent, send(A)) == [((0,), A)]
    assert means_.told == {"silent": 1}


def test_silent_towards_some() -> None:
    means_ = means()
    means_.rng = Dice(0.6, 0.9, 0.1, 0.5, 0.0)  # one victim, that with the least draw: node 2
    silent = Silent(means_)
    assert silent.victims == (2,)
    assert told(silent, send(A)) == [((0,), A), ((1, 3), A)]
    assert told(silent, send(A, 1)) == [((1,), A)]
    assert means_.told == {"silent": 1}


def test_slow_sends_nothing_now_and_each_later() -> None:
    slow = Slow(means())
    slow.share, slow.delay_s_max = 1.0, 0.2
    throw(slow, 0.0, 0.1, 0.5, 1.0)
    assert told(slow, send(A)) == [((0,), A)]
    assert slow.means.delayed == [
        (pytest.approx(0.02), send(A, 1)),
        (pytest.approx(0.1), send(A, 2)),
        (pytest.approx(0.2), send(A, 3)),
    ]


# --- replaying, forged, equivocating ---


def test_replaying_says_again_what_others_said() -> None:
    liar = Replaying(means())
    hear(liar, 1, [B])
    throw(liar, 0.0, 0.4, 0.0, 0.0)
    assert told(liar, send(A)) == [((0,), A), ((1, 2, 3), A), ((2,), B)]
    throw(liar, 0.99)
    assert told(liar, send(A)) == [((0,), A), ((1, 2, 3), A)]


def test_replaying_says_again_what_it_said_itself() -> None:
    liar = Replaying(means())
    liar.means.said.append(send(B, 1))
    throw(liar, 0.0, 0.9, 0.9, 0.0)
    assert told(liar, send(A)) == [((0,), A), ((1, 2, 3), A), ((3,), B)]


def test_forged_signs_nothing() -> None:
    liar = Forged(means(with_=resign))
    liar.instead = True
    hear(liar, 1, [Vote(7, b"x", b"hers")])
    # a forgery; of what was heard; its first value, the number; by one; up; and to whom
    throw(liar, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.0)
    assert told(liar, send(A)) == [((0,), A), ((1,), Vote(8, b"x", b"hers"))]
    assert liar.means.told == {"forged": 1}


def test_equivocating_signs_both() -> None:
    liar = Equivocating(means(with_=resign))
    liar.rate, liar.change, liar.kinds = 1.0, by_one, (int,)
    throw(liar, 0.0, 0.0, 0.9, 0.9, 0.1, 0.5, 0.0)
    assert told(liar, send(A)) == [((0,), A), ((1, 3), A), ((2,), Vote(0, b"a", b"mine"))]
    throw(liar, 0.0, 0.0, 0.0)
    assert told(liar, send(A, 3)) == [((3,), Vote(2, b"a", b"mine"))]


def test_who_cannot_sign_tells_the_truth() -> None:
    liar = Equivocating(means(with_=lambda keys, message: None))
    liar.rate = 1.0
    assert told(liar, send(A, 3)) == [((3,), A)]
    assert liar.means.told == {}


# --- ByzzFuzz ---


def test_byzzfuzz_lies_in_a_round_to_the_same_nodes() -> None:
    liar = ByzzFuzz(means(with_=resign))
    # the round is a lie; to the node with the least draw; small mutation; its first number; one more
    throw(liar, 0.0, 0.9, 0.9, 0.1, 0.0, 0.0, 0.0, 0.0)
    assert told(liar, send(A)) == [((0,), A), ((1, 2), A), ((3,), Vote(2, b"a", b"mine"))]
    throw(liar, 0.95)  # omission, in the same round
    assert told(liar, send(A, 3)) == []
    throw(liar, 0.99)  # the next round is honest
    assert told(liar, send(B)) == [((0,), B), ((1, 2, 3), B)]


def test_byzzfuzz_sends_an_old_one_of_the_same_type() -> None:
    liar = ByzzFuzz(means())
    liar.means.said.extend([send(B, 1)])
    throw(liar, 0.0, 0.9, 0.9, 0.1, 0.0, 0.7, 0.0)
    assert told(liar, send(A, 3)) == [((3,), B)]


def test_the_round_of_a_message() -> None:
    assert round_of(A) == ("Vote", 1)
    assert round_of(A) == round_of(Vote(1, b"other", b"signature"))
    assert round_of(A) != round_of(Vote(2, b"a"))


def test_partitions_by_round_part_the_messages_of_that_round_alone() -> None:
    parted = RoundPartitions(Dice(0.0), 4)  # type: ignore[arg-type]
    parted._rate = 0.5
    parted._rng = Dice(0.0, 3 / 16, 0.9)  # type: ignore[assignment]
    assert not parted.cut(0, 1, A)
    assert parted.cut(0, 2, A)
    assert parted.cut(3, 1, A)
    assert not parted.cut(3, 2, A)
    assert not parted.cut(0, 2, B)
    assert parted.cuts == 2


# --- to clients ---


class Reply(msgspec.Struct, frozen=True, tag=True):
    """As a service's Result."""

    id: int
    data: bytes


def value(number: Any) -> bytes:
    return msgspec.msgpack.encode(number)


def test_deceiving_says_nothing_what_is_old_or_another_value() -> None:
    liar = Deceiving(means())
    liar.rate = 1.0
    throw(liar, 0.0, 0.1)
    assert liar.answer(Reply(1, value(7))) is None
    throw(liar, 0.0, 0.5)
    assert liar.answer(Reply(2, value(8))) == Reply(2, value(7))
    throw(liar, 0.0, 0.9, 0.0, 0.0)
    assert liar.answer(Reply(3, value(9))) == Reply(3, value(10))
    throw(liar, 0.0, 0.9, 0.0)
    assert liar.answer(Reply(4, value(True))) == Reply(4, value(False))
    liar.rate = 0.0
    assert liar.answer(Reply(5, value(7))) == Reply(5, value(7))
    assert liar.means.told == {"deceiving": 4}


# --- changes ---


class Inner(msgspec.Struct, frozen=True, array_like=True):
    """A field of a message."""

    number: Annotated[int, Meta(ge=0)]
    names: tuple[bytes, ...]


class Outer(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A message."""

    inner: Inner
    flag: bool


OUTER = Outer(Inner(0, (b"x", b"y")), True)


def test_every_value_has_a_place() -> None:
    assert places(OUTER, (int,)) == [(("inner", "number"), 0)]
    assert places(OUTER, (bytes,)) == [(("inner", "names", 0), b"x"), (("inner", "names", 1), b"y")]
    assert put_at(OUTER, ("inner", "names", 1), b"z") == Outer(Inner(0, (b"x", b"z")), True)


def test_what_no_decoder_lets_through_is_not_made() -> None:
    assert passes(Outer(Inner(-1, ()), True)) is None
    for draw in range(10):
        assert changed(OUTER, Dice(0.0, 0.9, 0.0, 0.9, 0.0, draw / 10), by_one, (int,)) in (
            None,
            Outer(Inner(1, (b"x", b"y")), True),
        )


class Odd(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Refuses to be even."""

    number: int

    def __post_init__(self) -> None:
        if self.number % 2 == 0:
            raise ValueError("even")


def test_what_its_type_refuses_is_not_made() -> None:
    assert changed(Odd(3), Dice(0.0, 0.0, 0.0, 0.9), by_one, (int,)) is None


def test_a_change_is_one_change_of_the_same_shape() -> None:
    seen = set()
    for seed in range(200):
        dice = Dice(*[(seed * 31 + number * 17) % 97 / 97 for number in range(30)])
        other = changed(OUTER, dice, anything, ANYTHING)
        assert other is not None
        assert passes(other) == other != OUTER
        assert sum(a != b for a, b in ((other.inner, OUTER.inner), (other.flag, OUTER.flag))) == 1
        seen.add(other)
    assert len(seen) > 10


# --- all of them ---


def test_an_adversary_changes_its_liars_over_time_and_composes_them() -> None:
    means_ = means()
    means_.rng = Dice()
    adversary = Adversary([Silent, Slow], means_)
    adversary.kinds = [Silent, Slow]
    means_.rng = Dice(0.0, 0.4, 0.0, 0.9)  # until 0.1 s; two: Silent and Slow
    adversary.act(Turn(sends=[send(A)]), 0.0, None)
    assert [type(liar) for liar in adversary.liars] == [Silent, Slow]
    means_.rng = Dice(0.99)
    adversary.act(Turn(), 0.05, None)
    assert len(adversary.liars) == 2
    means_.rng = Dice(0.0, 0.0, 0.9)
    adversary.act(Turn(), 0.11, "core")
    assert [type(liar) for liar in adversary.liars] == [Slow]
    assert means_.core == "core"
    assert list(means_.said) == [Send((1, 2, 3), (), A)]


@pytest.mark.parametrize(("dice", "laggards", "waits"), [(0.6, False, False), (0.6, True, True), (0.96, True, False)])
def test_who_lies_to_laggards_is_nearly_always_there_in_a_run_with_many(
    dice: float, laggards: bool, waits: bool
) -> None:
    means_ = means()
    means_.rng = Dice(0.0, dice)
    adversary = Adversary([Silent, LyingSource], means_, laggards=laggards)
    assert [type(liar) for liar in adversary.waiting] == [LyingSource] * waits
    assert (adversary.kinds == []) == waits, "then it is often patient: the others keep nodes from falling behind"


def test_with_no_kinds_nothing_is_changed() -> None:
    adversary = Adversary([], means())
    turn = Turn(sends=[send(A)])
    assert adversary.act(turn, 0.0, None) is turn
    assert adversary.answer("yes") == "yes"


def test_names() -> None:
    names = tuple(kind.name for kind in GENERIC)
    assert len(set(names)) == len(names)
    assert parse_adversary("all") == names
    assert parse_adversary("none") == ()
    assert parse_adversary("slow,silent") == ("silent", "slow")
    with pytest.raises(OptionsError, match="no adversary is called nasty; write all, none, or some of silent, slow"):
        parse_adversary("silent,nasty")


APP_LIARS = [liar for name in REGISTRY if (of_app := equipment_of(name).with_app) for liar in of_app.liars]


@pytest.mark.parametrize(
    "kind", [*GENERIC, *(liar for name in REGISTRY for liar in equipment_of(name).liars), *APP_LIARS]
)
def test_every_liar_is_in_the_documents(kind: type[Liar]) -> None:
    assert f"| `{kind.name}` | {kind.summary} |\n" in DOCUMENT.read_text(encoding="utf-8")


def test_a_liar_has_its_own_keys_and_no_others() -> None:
    keys = Symbolic(range(4)).keys(0)
    liar = Liar(means(keys=keys))
    assert liar.means.keys is keys
    assert "secret" not in repr(keys)
