"""Outbox: exact effects of one step at a time."""

from itertools import pairwise

import msgspec
import pytest

from quorate.kernel import Received, Record, Send, Stalled, Timer
from quorate.parts.reliable import BEAT, EpochBeat, Life, ReliableConfig, letter_type
from quorate.runtime.codec import Codec, MalformedMessage

from tests.parts.reliable.owner import LETTER, At, Bench, Notice, Owner, Said, Voice, Word, beats, letter, letters

# --- sending ---


def test_a_start_is_a_recorded_life_a_timer_and_a_beat() -> None:
    bench = Bench()
    assert bench.shell.journal == [[Record((), Life(1))]]
    assert bench.shell.sent == [], "nothing leaves before the life is durable"
    bench.shell.sync()
    hello = EpochBeat(1, 1, 0, 0, 0, 0, ())
    assert bench.shell.sent == [Send((1,), (), hello), Send((2,), (), hello)]
    assert bench.beat().timers == [Timer((), BEAT, 0.2)]


def test_what_a_child_says_is_one_numbered_letter_to_all() -> None:
    bench = Bench()
    turn = bench.do("say 0 a", "say 0 b", "tell 0 2 c", "say 1 d")
    assert turn.sends == [
        Send((0, 1, 2), (), LETTER(1, 0, 0, (("voice", 0),), Word("a"))),
        Send((0, 1, 2), (), LETTER(1, 0, 1, (("voice", 0),), Word("b"))),
        Send((2,), (), LETTER(1, 0, 2, (("voice", 0),), Word("c"))),
        Send((0, 1, 2), (), LETTER(1, 1, 0, (("voice", 1),), Word("d"))),
    ]


def test_send_now_waits_for_the_life_too() -> None:
    bench = Bench()
    voice = bench.shell.host.root.voices[0]
    voice.env.send_now(1, Word("a"))
    turn = bench.do()
    assert turn.early == ()
    assert letters(turn) == [((1,), 0, 0, "a")]


def test_the_owner_can_say_something_itself() -> None:
    bench = Bench()
    turn = bench.do("announce 0 hello")
    assert turn.sends == [Send((0, 1, 2), (), LETTER(1, 0, 0, (), Notice("hello")))]
    turn = bench.on(1, LETTER(1, 0, 0, (), Notice("hello")), LETTER(1, 0, 0, (), Notice("hello")))
    assert turn.outputs == [(0, 1, Notice("hello"))]


def test_letters_for_epochs_that_a_peer_cannot_take_are_held_back_until_it_can() -> None:
    bench = Bench()
    bench.hears(2, epoch=1)
    turn = bench.do("say 0 a", "say 1 b", "say 2 c", "say 3 d")
    assert letters(turn) == [((0, 1), 0, 0, "a"), ((0, 1, 2), 1, 0, "b"), ((0, 2), 2, 0, "c"), ((0,), 3, 0, "d")]
    assert letters(bench.hears(1, epoch=1)) == [((1,), 2, 0, "c")]
    assert letters(bench.hears(1, epoch=2)) == [((1,), 3, 0, "d")]
    assert letters(bench.hears(1, epoch=2)) == []
    assert letters(bench.hears(2, epoch=3)) == [((2,), 3, 0, "d")]


def test_a_peer_that_jumps_ahead_is_sent_what_it_can_use_and_nothing_that_it_left() -> None:
    bench = Bench()
    bench.do("say 2 a", "say 3 b", "say 4 c", "say 5 d", "say 6 e")
    assert letters(bench.hears(1, epoch=4)) == [((1,), 4, 0, "c"), ((1,), 5, 0, "d")]


# --- sending again ---


def test_what_an_answered_beat_did_not_find_is_sent_again() -> None:
    bench = Bench()
    bench.do("say 0 a", "say 0 b", "say 0 c", "say 1 d")
    assert letters(bench.hears(1)) == [], "they left after the beat that this answers"
    bench.beat()
    turn = bench.hears(1, seen=(b"\x02", b"\x01"))
    assert letters(turn) == [((1,), 0, 0, "a"), ((1,), 0, 2, "c")]
    assert bench.outbox.resent == 2


def test_acknowledgements_add_up_in_any_order() -> None:
    bench = Bench()
    bench.do("say 0 a", "say 0 b", "say 0 c")
    bench.hears(1, seen=(b"\x06",))
    bench.hears(1, seen=(b"\x01",), to_tick=0)
    bench.beat()
    assert letters(bench.hears(1)) == []


def test_one_resend_is_under_way_at_a_time() -> None:
    bench = Bench()
    bench.do("say 0 a")
    bench.beat()
    assert letters(bench.hears(1)) == [((1,), 0, 0, "a")]
    assert letters(bench.hears(1)) == [], "the beat after the resend is not answered"
    bench.beat()
    assert letters(bench.hears(1, to_tick=2)) == []
    assert letters(bench.hears(1)) == [((1,), 0, 0, "a")]
    assert letters(bench.hears(2)) == [((2,), 0, 0, "a")], "each peer has its own"


def test_the_time_between_resends_doubles_while_nothing_comes_of_them() -> None:
    bench = Bench(backoff_beats_max=8)
    bench.do("say 0 a", "say 0 b")
    sent = []
    for tick in range(2, 40):
        bench.beat()
        if letters(bench.hears(1)):
            sent.append(tick)
    assert [later - earlier for earlier, later in pairwise(sent)] == [1, 2, 4, 8, 8, 8]
    bench.hears(1, seen=(b"\x01",))
    sent.clear()
    for tick in range(40, 60):
        bench.beat()
        if letters(bench.hears(1)):
            sent.append(tick)
    assert [later - earlier for earlier, later in pairwise(sent)][:3] == [1, 2, 4]


def test_nothing_is_sent_again_to_a_peer_that_cannot_hear_us() -> None:
    bench = Bench()
    bench.do("say 0 a")
    for _ in range(5):
        bench.beat()
        assert letters(bench.hears(1, to_tick=0)) == []


def test_a_resend_has_a_limit_and_the_next_goes_on() -> None:
    bench = Bench(resend_messages_max=2, resend_bytes_max=50)
    bench.do("say 0 a", "say 0 b", "say 0 c", "say 0 " + "d" * 100, "say 0 e")
    bench.beat()
    assert letters(bench.hears(1)) == [((1,), 0, 0, "a"), ((1,), 0, 1, "b")]
    bench.beat()
    assert letters(bench.hears(1, seen=(b"\x03",))) == [((1,), 0, 2, "c")]
    bench.beat()
    turn = bench.hears(1, seen=(b"\x07",))
    assert letters(turn) == [((1,), 0, 3, "d" * 100)], "one at least"


def test_what_was_held_back_counts_from_when_it_left() -> None:
    bench = Bench()
    bench.do("say 2 a")
    bench.beat()
    assert letters(bench.hears(1, epoch=1)) == [((1,), 2, 0, "a")]
    assert letters(bench.hears(1, epoch=1)) == []
    bench.beat()
    assert letters(bench.hears(1, epoch=1)) == [((1,), 2, 0, "a")]


# --- receiving ---


def test_a_letter_is_handed_on_once() -> None:
    bench = Bench()
    turn = bench.on(1, letter(0, "a"), letter(0, "a"), letter(5, "b"), letter(0, "other"))
    assert turn.outputs == [(0, 1, "a"), (0, 1, "b")]
    assert bench.on(1, letter(5, "b")).outputs == ()
    assert bench.on(2, letter(0, "a")).outputs == [(0, 2, "a")]
    assert beats(bench.beat())[1].seen == (b"\x21",)


def test_a_beat_says_what_came_of_the_epochs_that_matter() -> None:
    bench = Bench()
    bench.hears(1, tick=7, life=3)
    bench.on(1, letter(9, "a", life=3), letter(0, "b", epoch=1, life=3))
    assert beats(bench.beat()) == {
        1: EpochBeat(1, 2, 0, 0, 3, 7, (b"\x00\x02", b"\x01")),
        2: EpochBeat(1, 2, 0, 0, 0, 0, ()),
    }
    assert beats(bench.do("advance 1")) == {
        1: EpochBeat(1, 2, 1, 0, 3, 7, (b"\x01",)),
        2: EpochBeat(1, 2, 1, 0, 0, 0, ()),
    }


def test_beats_come_in_any_order_and_begin_anew_with_a_life() -> None:
    bench = Bench()
    bench.hears(1, tick=7)
    bench.hears(1, tick=5)
    assert beats(bench.beat())[1].to_tick == 7
    bench.on(1, letter(0, "a"))
    bench.hears(1, tick=1, life=2)
    told = beats(bench.beat())[1]
    assert (told.to_life, told.to_tick, told.seen) == (2, 1, ())


def test_what_came_of_epochs_that_are_over_is_forgotten() -> None:
    bench = Bench()
    for epoch in range(10):
        bench.on(1, letter(0, "a", epoch=epoch))
        bench.do(f"advance {epoch + 1}")
    assert bench.outbox._peers[1].seen == {}


@pytest.mark.parametrize("epoch", [0, 1, 4, 2**61])
def test_a_letter_of_another_time_is_neither_handed_on_nor_acknowledged(epoch: int) -> None:
    bench = Bench()
    bench.do("advance 2")
    turn = bench.on(1, letter(0, "a", epoch=epoch))
    assert (turn.outputs, turn.blames) == ((), ())
    assert beats(bench.beat())[1].seen == ()
    assert bench.outbox.parked(1) == (0, 0)


def test_what_is_for_a_child_that_is_not_there_waits_for_it() -> None:
    bench = Bench()
    path = (("voice", 0), ("late", 0))
    turn = bench.on(1, letter(0, "a", path=path), letter(1, "b"))
    assert turn.outputs == [(0, 1, "b")]
    assert beats(bench.beat())[1].seen == (b"\x03",)
    assert bench.do("later 0").outputs == [(0, 1, "a")]
    assert bench.on(1, letter(2, "c", path=path)).outputs == [(0, 1, "c")]
    assert bench.outbox.parked(1) == (0, 0)


def test_too_much_that_waits_is_not_taken_and_comes_again() -> None:
    bench = Bench(parked_max=2)
    path = (("voice", 0), ("late", 0))
    turn = bench.on(1, *[letter(number, str(number), path=path) for number in range(4)])
    assert (turn.outputs, turn.blames) == ((), ())
    assert beats(bench.beat())[1].seen == (b"\x03",)
    assert bench.do("later 0").outputs == [(0, 1, "0"), (0, 1, "1")]
    assert bench.on(1, letter(2, "2", path=path)).outputs == [(0, 1, "2")]


def test_bytes_that_wait_have_a_limit_too() -> None:
    bench = Bench(parked_bytes_max=100)
    path = (("voice", 0), ("late", 0))
    bench.on(1, letter(0, "a" * 60, path=path), letter(1, "b" * 60, path=path))
    count, size = bench.outbox.parked(1)
    assert count == 1
    assert 60 < size <= 100
    bench.do("advance 1")
    assert bench.outbox.parked(1) == (0, 0)


def test_what_is_for_a_retired_child_is_acknowledged_and_dropped() -> None:
    bench = Bench()
    path = (("voice", 0), ("late", 0))
    bench.do("later 0")
    bench.on(1, letter(0, "a", path=(*path, ("late", 0))))
    bench.do("hush 0")
    assert bench.outbox.parked(1) == (0, 0)
    turn = bench.on(1, letter(1, "a", path=path), letter(2, "b", path=(*path, ("late", 0))))
    assert (turn.outputs, turn.blames) == ((), ())
    assert beats(bench.beat())[1].seen == (b"\x07",)
    assert bench.outbox.parked(1) == (0, 0)


def test_a_message_that_the_child_does_not_take_is_blamed() -> None:
    bench = Bench()
    turn = bench.on(1, LETTER(1, 0, 0, (("voice", 0),), Notice("a")))
    assert [blame.node for blame in turn.blames] == [1]


# --- epochs that end ---


def test_an_epoch_is_dropped_when_everybody_has_left_it() -> None:
    bench = Bench()
    bench.do("say 0 a", "say 1 b", "advance 1")
    bench.hears(1, epoch=1)
    assert (bench.outbox.floor, bench.outbox.messages) == (0, 2)
    bench.hears(2, epoch=1)
    assert (bench.outbox.floor, bench.outbox.messages) == (1, 1)
    assert letters(bench.do("tell 0 1 c")) == [], "nobody needs it"
    assert bench.outbox.messages == 1


def test_a_peer_that_is_too_far_behind_is_reported_and_told() -> None:
    bench = Bench(epochs_max=3)
    bench.hears(1, epoch=0)
    for epoch in range(6):
        bench.do(f"say {epoch} a", f"advance {epoch + 1}")
    assert (bench.outbox.floor, bench.outbox.messages) == (3, 3)
    assert bench.outbox.behind == 0b010, "node 2 was never heard: it may be anywhere"
    assert beats(bench.beat())[1].held_from == 3
    bench.hears(1, epoch=3)
    assert bench.outbox.behind == 0


def test_a_node_that_is_too_far_behind_knows_who_left_it() -> None:
    bench = Bench()
    bench.hears(1, epoch=9, held_from=0)
    assert bench.outbox.abandoned == 0
    bench.hears(1, epoch=100, held_from=90)
    bench.hears(2, epoch=100, held_from=90)
    assert bench.outbox.abandoned == 0b110
    bench.do("advance 90")
    assert bench.outbox.abandoned == 0


def test_the_oldest_epochs_make_room_for_bytes() -> None:
    bench = Bench(bytes_max=1000)
    bench.hears(1)
    bench.hears(2)
    for epoch in range(5):
        bench.do(f"say {epoch} " + "a" * 300, f"advance {epoch + 1}")
        assert bench.outbox.size_bytes <= 1000
    assert (bench.outbox.floor, bench.outbox.messages) == (2, 3)
    assert bench.outbox.behind == 0b110


def test_what_the_epoch_under_way_has_no_room_for_is_sent_once_and_reported() -> None:
    bench = Bench(messages_max=2)
    bench.hears(1)
    bench.hears(2)
    turn = bench.do("say 0 a", "say 0 b", "tell 0 1 c", "say 0 d")
    assert [text for _, _, _, text in letters(turn)] == ["a", "b", "c", "d"]
    assert bench.outbox.messages == 2
    assert bench.outbox.behind == 0b110
    bench.beat()
    assert letters(bench.hears(1)) == [((1,), 0, 0, "a"), ((1,), 0, 1, "b")]
    assert beats(bench.beat())[1].held_from == 1
    bench.hears(1, epoch=1)
    assert bench.outbox.behind == 0b100


def test_a_late_message_does_not_push_out_its_own_epoch_and_stay() -> None:
    bench = Bench(messages_max=2)
    bench.do("say 0 a", "say 1 b", "advance 1", "say 0 c")
    assert bench.outbox.floor == 1
    assert bench.outbox.messages == 1
    bench.do("say 1 d")
    assert bench.outbox.messages == 2


# --- lives ---


def test_a_peer_that_restarted_is_sent_all_of_its_epochs_again_at_once() -> None:
    bench = Bench()
    bench.do("say 0 a", "say 1 b", "say 2 c")
    bench.hears(1, seen=(b"\x01", b"\x01"))
    bench.beat()
    turn = bench.hears(1, life=2, to_life=0, to_tick=0)
    assert letters(turn) == [((1,), 0, 0, "a"), ((1,), 1, 0, "b")]
    assert beats(turn)[1] == EpochBeat(1, 2, 0, 0, 2, 1, ())
    assert letters(bench.hears(1, epoch=1, life=2)) == [((1,), 2, 0, "c")]


def test_a_peer_that_restarted_in_a_later_epoch_is_sent_that_once() -> None:
    bench = Bench()
    bench.do("say 0 a", "say 1 b", "say 2 c")
    bench.hears(1)
    turn = bench.hears(1, life=2, epoch=1, to_life=0)
    assert letters(turn) == [((1,), 1, 0, "b"), ((1,), 2, 0, "c")]
    assert letters(bench.hears(1, life=2, epoch=1, to_life=0)) == []


def test_restarts_without_end_cost_one_resend_a_beat() -> None:
    bench = Bench()
    bench.do("say 0 a")
    bench.hears(1)
    count = 0
    for beat in range(5):
        bench.beat()
        for life in range(100):
            turn = bench.hears(1, life=2 + 100 * beat + life, to_tick=2**61)
            count += len(letters(turn))
            assert len(turn.sends) <= 2
    assert count == 5


def test_a_restart_shows_in_a_letter_too() -> None:
    bench = Bench()
    bench.do("say 0 a")
    bench.hears(1, seen=(b"\x01",))
    bench.beat()
    assert bench.on(1, letter(0, "b", life=2)).outputs == [(0, 1, "b")]
    assert letters(bench.hears(1, life=2, to_life=0)) == [((1,), 0, 0, "a")]


def test_what_is_late_of_an_earlier_life_is_dropped() -> None:
    bench = Bench()
    bench.on(1, letter(0, "a", life=2))
    assert bench.on(1, letter(1, "b", life=1)).outputs == ()
    bench.do("say 0 c")
    bench.hears(1, life=2)
    bench.hears(1, life=1, epoch=5, seen=(b"\x01",))
    bench.beat()
    assert letters(bench.hears(1, life=2)) == [((1,), 0, 0, "c")]


def test_a_new_life_says_its_words_again_under_new_numbers() -> None:
    bench = Bench()
    bench.do("tell 0 1 lost", "say 0 a", "advance 1", "say 2 b")
    bench.shell.sync()
    bench.shell.crash()
    bench.shell.sent.clear()
    bench.shell.boot()
    bench.shell.sync()
    assert [(s.to, s.message) for s in bench.shell.sent] == [
        ((1,), EpochBeat(2, 1, 1, 0, 0, 0, ())),
        ((2,), EpochBeat(2, 1, 1, 0, 0, 0, ())),
        ((0, 1, 2), letter(0, "a", life=2)),
        ((0,), letter(0, "b", epoch=2, life=2)),
    ]
    assert bench.shell.journal[-1] == [Record((), Life(2))]
    assert letters(bench.hears(1, epoch=1, to_life=1, seen=(b"\x01", b"\x01"))) == [((1,), 2, 0, "b")]
    bench.beat()
    assert letters(bench.hears(1, epoch=1, to_life=1)) == [], "it does not know this life yet"
    assert letters(bench.hears(1, epoch=1)) == [((1,), 2, 0, "b")], "what it has of the former life counts for nothing"


def test_a_checkpoint_keeps_the_life() -> None:
    bench = Bench()
    bench.do("say 0 a")
    records = bench.shell.host.checkpoint()
    assert records == [Record((), Life(1)), Record((), At(0)), Record((), Said(0, "a"))]


def test_recovery_by_inputs_goes_on_in_the_same_life() -> None:
    bench = Bench()
    shell = type(bench.shell)(Owner, 0, (0, 1, 2), by_inputs=True)
    bench.shell = shell
    bench.do("tell 0 1 a")
    bench.hears(1)
    bench.on(1, letter(0, "x"))
    shell.sync()
    shell.crash()
    shell.sent.clear()
    shell.boot()
    shell.sync()
    assert bench.outbox.life == 1
    assert beats_sent(shell.sent)[1] == EpochBeat(1, 2, 0, 0, 1, 1, (b"\x01",))
    assert bench.on(1, letter(0, "x")).outputs == ()
    assert letters(bench.hears(1)) == [((1,), 0, 0, "a")]


def beats_sent(sent: list[Send]) -> dict[int, EpochBeat]:
    return {send.to[0]: send.message for send in sent if isinstance(send.message, EpochBeat)}


def test_what_it_said_to_itself_and_lost_in_a_crash_comes_again() -> None:
    bench = Bench()
    shell = type(bench.shell)(Owner, 0, (0, 1, 2), by_inputs=True)
    bench.shell = shell
    bench.do("say 0 a", "say 0 b")
    bench.on(0, letter(0, "a"))
    shell.sync()
    shell.crash()
    shell.sent.clear()
    shell.boot()
    shell.sync()
    again = [send for send in shell.sent if send.to == (0,)]
    assert again == [Send((0,), (), letter(1, "b"))]
    assert bench.on(0, letter(1, "b"), letter(1, "b")).outputs == [(0, 0, "b")]


# --- and the rest ---


def test_on_a_full_disk_it_is_silent_but_takes_what_comes() -> None:
    bench = Bench()
    bench.do("say 0 a", "say 2 b")
    bench.beat()
    bench.shell.step(Stalled("the disk is full"))
    turn = bench.beat()
    assert turn.sends == ()
    assert turn.timers == [Timer((), BEAT, 0.2)]
    assert bench.hears(1).sends == ()
    assert bench.hears(1, epoch=1).sends == ()
    assert bench.hears(2, life=1).sends == ()
    assert bench.hears(2, life=2).sends == ()
    assert bench.on(1, letter(0, "x")).outputs == [(0, 1, "x")]
    bench.shell.step(Stalled(None))
    assert beats(bench.beat())[1].seen == (b"\x01",)
    assert letters(bench.hears(1, epoch=1)) == [((1,), 2, 0, "b")]
    assert letters(bench.hears(2, life=2)) == [((2,), 0, 0, "a")]


def test_a_fork_goes_its_own_way() -> None:
    bench = Bench()
    bench.do("say 0 a")
    fork = bench.shell.host.fork()
    turn = bench.on(1, letter(0, "x"), letter(1, "y"))
    assert fork.step([Received(1, letter(0, "x")), Received(1, letter(1, "y"))], 0.0) == turn
    assert fork.root.outbox is not bench.outbox  # type: ignore[attr-defined]
    assert fork.root.voices[0].env._outbox is fork.root.outbox  # type: ignore[attr-defined]


def test_letters_and_beats_pass_the_codec_and_what_is_out_of_range_does_not() -> None:
    codec = Codec(Owner)
    for message in (letter(3, "a", epoch=2), LETTER(1, 2, 3, (), Notice("a")), EpochBeat(1, 2, 3, 4, 5, 6, (b"\x01",))):
        assert codec.decode_message(codec.encode_message((), message)) == ((), message)
    wrong = [
        LETTER(1, 2**63, 0, (), Word("a")),
        LETTER(1, 0, 1 << 16, (), Word("a")),
        LETTER(1, 0, 0, (), Said(0, "a")),
        EpochBeat(1, 2, 2**63, 4, 5, 6),
        EpochBeat(1, 2, 3, 4, 5, 6, (b"",) * 5),
        EpochBeat(1, 2, 3, 4, 5, 6, (bytes(8193),)),
    ]
    for message in wrong:
        with pytest.raises(MalformedMessage):
            codec.decode_message(codec.encode_message((), message))


def test_a_letter_type_covers_children_of_children() -> None:
    class Leaf(Voice):
        pass

    class Stem(Voice):
        messages = ()
        children = (Leaf,)

    made = letter_type(Stem)
    data = msgspec.msgpack.encode(made(1, 0, 0, (), Word("a")))
    assert msgspec.msgpack.decode(data, type=made).message == Word("a")
    with pytest.raises(TypeError):
        letter_type()


@pytest.mark.parametrize(
    "fields",
    [{"ahead_max": 0}, {"ahead_max": 4}, {"beat_s": 0.0}, {"bytes_max": 0}, {"parked_max": 0}, {"epochs_max": 0}],
)
def test_a_config_that_makes_no_sense_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must|not in"):
        ReliableConfig(**fields)  # type: ignore[arg-type]
