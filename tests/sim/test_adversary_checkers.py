"""The checkers of Byzantine runs: each is silent in a healthy run and catches what is planted."""

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.parts import requests
from quorate.parts.crypto.keys import Scheme, Signer, Symbolic
from quorate.parts.log.entries import NOOP, Entry
from quorate.parts.log.replicated import Decided
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.pbft.invariants import AGAIN_MAX, TURNS_MAX, PbftInvariants
from quorate.protocols.pbft.messages import Image, ImagePiece
from quorate.protocols.pbft.transfer import PATIENCE_BEATS
from quorate.sim.checkers.base import Violation
from quorate.sim.checkers.once import Once
from quorate.sim.checkers.validity import Validity
from quorate.trials.subjects import RegisterMachine

from tests.protocols.pbft.pbft_nodes import image_piece, in_pieces

SCHEME = Symbolic(range(5))
A, B = b"a" * 32, b"b" * 32
ADMIN, CLIENT = SCHEME.client(1), SCHEME.client(2)


# --- validity ---


def committed(*values: bytes, first: int = 1) -> Decided:
    return Decided(first, [Entry(0, value) for value in values])


def test_what_clients_signed_is_valid() -> None:
    checker = Validity(SCHEME)
    good = [requests.sign(SCHEME.client(number), (b"x",)) for number in range(3)]
    checker.output(0, committed(*good[:2]))
    checker.output(1, committed(*good))
    assert checker.checked == 3
    checker.output(1, Decided(4, (Entry(0, b"", NOOP),)))
    checker.output(1, "something else")
    assert checker.checked == 4


def test_what_nobody_signed_is_not() -> None:
    good = requests.sign(SCHEME.client(1), (b"x",))
    request = requests.decode_signed_request(good)
    assert request is not None
    other: Scheme = Symbolic(range(4), b"another group")
    for wrong, why in (
        (b"x", "what is no request"),
        (good[:-1] + bytes((good[-1] ^ 1,)), "a request that its client did not sign"),
        (requests.sign(other.client(1), (b"x",)), "a request of nobody"),
        (requests.sign(SCHEME.client(1000), (b"x",)), "a request of nobody"),
    ):
        checker = Validity(SCHEME)
        checker.output(0, committed(good, good))
        with pytest.raises(Violation, match=f"validity: node 2 commits {why}"):
            checker.output(2, committed(good, good, wrong))


# --- once ---


def test_an_operation_that_is_applied_twice() -> None:
    machine = RegisterMachine()
    operation = b"\x93\xa5write\xa1k\x07"
    machine.apply(operation)
    world: Any = SimpleNamespace(honest=[SimpleNamespace(id=2, app=machine)])
    once = Once(lambda app: app.repeated)  # type: ignore[attr-defined]
    once.finish(world)
    machine.apply(operation)
    with pytest.raises(Violation, match="once: node 2 executed write k 7 twice"):
        once.finish(world)


# --- PBFT ---


def core(node: int = 0, **changes: Any) -> SimpleNamespace:
    """What the checker reads of a core."""
    group = SimpleNamespace(members=(0, 1, 2, 3), epoch=0, began_at=0, primary=lambda view: view % 4)
    made = SimpleNamespace(
        view=SimpleNamespace(number=0, is_changing=False, reach=0, stalled=None, group=group, keys=SCHEME.keys(node)),
        log=SimpleNamespace(accepted={}, prepared={}, slots={}, batches={}),
        history=SimpleNamespace(
            digests={}, stable=None, footing=None, low=0, high=16, executed=0, index=0, digest=bytes(32), switches={}
        ),
        config=SimpleNamespace(window=16, beat_s=0.5, admins=(ADMIN.public,)),
        env=SimpleNamespace(now=0.0),
        transfer=SimpleNamespace(fetched=None, source=0, offset=0, writing=None, storing=None),
    )
    change(made, **changes)
    return made


def change(made: SimpleNamespace, **changes: Any) -> None:
    """Set attributes of the parts that have them."""
    for name, value in changes.items():
        (part,) = [part for part in (made.view, made.log, made.history, made.transfer) if hasattr(part, name)]
        setattr(part, name, value)


def vote(view: int, digest: bytes) -> SimpleNamespace:
    return SimpleNamespace(view=view, digest=digest)


def certificate(
    first: int, second: int, digest: bytes, context: str = "pbft prepare", nodes: tuple[int, ...] = (0, 1, 2)
) -> Certificate:
    """Of these nodes, rightly signed."""
    statement = first.to_bytes(8, "big") + second.to_bytes(8, "big") + digest
    return Certificate(
        context, statement, tuple((node, SCHEME.signer(node).sign(context, statement)) for node in nodes)
    )


def watch(*cores: SimpleNamespace) -> PbftInvariants:
    checker = PbftInvariants()
    for node, each in enumerate(cores):
        checker.started(node, each)
    return checker


def step(checker: PbftInvariants, node: int, each: SimpleNamespace, release: bool = True) -> None:
    checker.stepped(node, each)
    mark = checker.mark(node)
    if release:
        checker.released(node, mark)


def execute(each: SimpleNamespace, digest: bytes, history: bytes = B) -> None:
    """One more batch, which prepared in this view."""
    each.log.prepared[each.history.executed + 1] = certificate(each.view.number, each.history.executed + 1, digest)
    done = each.history
    done.executed += 1
    done.index += 1
    done.digest = history
    done.digests[done.executed] = digest
    each.log.slots[done.executed] = object()


def test_a_healthy_pbft() -> None:
    one, two = core(0), core(1)
    checker = watch(one, two)
    for node, each in enumerate((one, two)):
        each.log.accepted[1] = vote(0, A)
        each.log.prepared[1] = certificate(0, 1, A)
        step(checker, node, each)
        execute(each, A)
        step(checker, node, each)
    one.view.number, one.view.is_changing = 1, True
    step(checker, 0, one)
    one.view.is_changing = False
    one.log.accepted[1], one.log.prepared[1] = vote(1, A), certificate(1, 1, A)
    step(checker, 0, one)
    one.history.stable, one.history.low = certificate(1, 1, B, "pbft checkpoint"), 1
    for table in (one.log.accepted, one.log.prepared, one.log.slots):
        table.clear()
    step(checker, 0, one)
    checker.started(1, core(1))
    assert checker.decided == {1: A}
    assert checker.points == {1: (1, B)}


def test_certificates_that_prove_nothing() -> None:
    for wrong in (
        certificate(0, 1, A, nodes=(0, 1)),
        certificate(0, 1, A, nodes=()),
        Certificate("pbft prepare", certificate(0, 1, B).statement, certificate(0, 1, A).signatures),
    ):
        one = core(prepared={1: wrong})
        with pytest.raises(Violation, match="certificates verify: node 0 holds a pbft prepare certificate that proves"):
            watch(one)
    with pytest.raises(Violation, match="node 0 holds a certificate of 2 for 1"):
        watch(core(prepared={1: certificate(0, 2, A)}))
    with pytest.raises(Violation, match="certificates verify: node 0 holds a pbft checkpoint certificate"):
        watch(core(stable=certificate(8, 8, A, "pbft checkpoint", (0, 1)), low=8))


def test_two_batches_prepared_at_one_number() -> None:
    one, two = core(prepared={1: certificate(0, 1, A)}), core(prepared={1: certificate(0, 1, B, nodes=(1, 2, 3))})
    with pytest.raises(Violation, match="one prepared batch a view and number: in view 0 at 1 node 1"):
        watch(one, two)
    watch(one, core(prepared={1: certificate(1, 1, B)}))  # another view, and nothing was executed


def test_two_batches_executed_at_one_number() -> None:
    one, two = core(), core()
    checker = watch(one, two)
    execute(one, A)
    step(checker, 0, one)
    execute(two, B)
    two.log.prepared.clear()  # others say that they executed it
    with pytest.raises(Violation, match="one executed batch a number: node 1 executes 62626262 at 1"):
        step(checker, 1, two)


def test_what_was_executed_is_prepared_otherwise_later() -> None:
    one, two = core(), core(number=1)
    checker = watch(one, two)
    execute(one, A)
    step(checker, 0, one)
    two.log.prepared[1] = certificate(1, 1, B)
    with pytest.raises(Violation, match="what was executed stays: 62626262 prepared at 1 in view 1, where 61616161"):
        step(checker, 1, two)


def test_what_prepared_otherwise_is_executed_later() -> None:
    one, two = core(), core(number=1)
    checker = watch(one, two)
    execute(one, A)
    checker.stepped(0, one)
    mark = checker.mark(0)
    two.log.prepared[1] = certificate(1, 1, B)
    step(checker, 1, two)
    with pytest.raises(Violation, match="what was executed stays: 62626262 prepared at 1 in view 1, where 61616161"):
        checker.released(0, mark)


def test_what_a_later_view_decided_may_be_told_in_an_older_one() -> None:
    """One executes it at the word of others. Another that stayed behind prepares what nobody else did."""
    decided, told, late = core(number=2), core(number=1), core(number=1)
    checker = watch(decided, told, late, core(number=2, prepared={1: certificate(2, 1, A)}))
    told.log.prepared[1] = certificate(2, 1, A)
    checker.stepped(1, told)
    execute(decided, A)
    checker.stepped(0, decided)
    execute(told, A)
    told.log.prepared.clear()
    step(checker, 1, told)
    late.log.prepared[1] = certificate(1, 1, B)
    step(checker, 2, late)
    assert checker.decided == {1: A}


def test_a_stable_checkpoint_in_memory_alone_may_be_lost() -> None:
    """Where a node's own vote made the quorum. Once it is told it stays."""
    one = core(stable=certificate(8, 8, A, "pbft checkpoint"), low=8)
    checker = watch(one)
    one = core(stable=certificate(8, 7, B, "pbft checkpoint"), low=8)
    checker.started(0, one)
    step(checker, 0, one)
    assert checker.points == {8: (7, B)}
    other = core(1, stable=certificate(8, 8, A, "pbft checkpoint"), low=8)
    with pytest.raises(Violation, match="equal checkpoints: node 1 has index 8 and history 61616161 at 8, others 7"):
        checker.started(1, other)


def test_what_was_executed_in_memory_alone_may_be_lost() -> None:
    one, two = core(), core(number=1)
    checker = watch(one, two)
    execute(one, A)
    step(checker, 0, one, release=False)
    checker.started(0, core(number=1))
    execute(two, B)
    step(checker, 1, two)
    assert checker.decided == {1: B}
    assert checker.points == {1: (1, B)}


def test_histories_that_differ() -> None:
    one, two = core(), core()
    checker = watch(one, two)
    execute(one, A)
    step(checker, 0, one)
    execute(two, A, history=A)
    with pytest.raises(Violation, match="equal checkpoints: node 1 has index 1"):
        step(checker, 1, two)
    with pytest.raises(Violation, match="equal checkpoints: node 2 has index 1 and history 61616161"):
        checker.started(2, core(stable=certificate(1, 1, A, "pbft checkpoint"), low=1))


def among(members: tuple[int, ...], epoch: int, began_at: int) -> SimpleNamespace:
    return SimpleNamespace(members=members, epoch=epoch, began_at=began_at)


def test_a_checkpoint_is_made_by_those_who_voted_before_it() -> None:
    old, new = among((0, 1, 2, 3), 0, 0), among((1, 2, 3, 4), 1, 8)
    first = certificate(8, 8, A, "pbft checkpoint")
    checker = watch(core(group=old), core(group=new, stable=first, low=8))
    checker.started(2, core(group=new, stable=first, low=8, executed=16, index=16, digest=B))  # went on from there
    checker.started(3, core(group=new, stable=certificate(16, 16, B, "pbft checkpoint", (1, 2, 3)), low=16))
    for sequence, nodes in ((8, (1, 2, 4)), (16, (0, 1, 2))):
        made = certificate(sequence, sequence, A, "pbft checkpoint", nodes)
        with pytest.raises(Violation, match="node 4 holds a pbft checkpoint certificate that proves nothing"):
            checker.started(4, core(group=new, stable=made, low=sequence))


def test_an_epoch_that_begins_at_two_checkpoints() -> None:
    with pytest.raises(Violation, match="epoch 1 begins at 16 for node 1, at 8 for others"):
        watch(*[core(group=among((0, 1, 2, 3), 1, began_at)) for began_at in (8, 16)])


@pytest.mark.parametrize("table", ["accepted", "prepared", "slots"])
def test_work_outside_the_water_marks(table: str) -> None:
    one = core(low=8, stable=certificate(8, 8, A, "pbft checkpoint"))
    checker = watch(one)
    entry = {"accepted": vote(0, A), "prepared": certificate(0, 25, A), "slots": object()}
    one.log.slots[24] = object()
    step(checker, 0, one)
    getattr(one.log, table)[25] = entry[table]
    one.log.slots[23] = object()
    with pytest.raises(Violation, match="water marks: node 0 works on"):
        step(checker, 0, one)


@pytest.mark.parametrize(("sequence", "is_right"), [(40, False), (41, True), (56, True), (57, False)])
def test_work_outside_them_above_the_checkpoint_that_a_new_view_began_with(sequence: int, is_right: bool) -> None:
    one = core(footing=certificate(40, 40, A, "pbft checkpoint"))
    checker = watch(one)
    one.log.slots[sequence] = object()
    if is_right:
        step(checker, 0, one)
    else:
        with pytest.raises(Violation, match="water marks: node 0 works on"):
            step(checker, 0, one)


def test_a_checkpoint_that_a_view_began_with_and_that_is_not_proven() -> None:
    one = core()
    checker = watch(one)
    change(one, footing=certificate(40, 40, A, "pbft checkpoint", (0, 1)))
    with pytest.raises(Violation, match="node 0 holds a pbft checkpoint certificate that proves nothing"):
        step(checker, 0, one)


def test_state_that_goes_back() -> None:
    for before, after, words in (
        ({"number": 2}, {"number": 1}, "goes back from view 2 to view 1"),
        ({"number": 2}, {"is_changing": True}, "goes back from view 2"),
        ({"executed": 3, "digest": A}, {"executed": 2}, "goes back from batch 3 to 2"),
        (
            {"low": 8, "stable": certificate(8, 8, A, "pbft checkpoint")},
            {"low": 4, "stable": certificate(4, 4, A, "pbft checkpoint")},
            "goes back from 8 to 4",
        ),
    ):
        one = core(**before)
        checker = watch(one)
        change(one, **after)
        with pytest.raises(Violation, match=words):
            step(checker, 0, one)


def test_two_votes_of_one_life() -> None:
    one = core(accepted={1: vote(0, A)})
    checker = watch(one)
    one.log.accepted[1] = vote(0, B)
    with pytest.raises(Violation, match="one vote a view and number: node 0 votes for 62626262 at 1 in view 0"):
        step(checker, 0, one)


@pytest.mark.parametrize("liars", [(), (3,)])
@pytest.mark.parametrize("views", [(0, 0, 0, 0), (0, 0, 1, 1), (0, 1, 1, 1)])
def test_commits_of_two_views_do_not_add_up(views: tuple[int, ...], liars: tuple[int, ...]) -> None:
    honest = [node for node in range(4) if node not in liars]
    cores = {node: core(node) for node in honest}
    checker = PbftInvariants()
    for node, each in cores.items():
        checker.started(node, each)
        change(each, number=views[node], prepared={1: certificate(views[node], 1, A)})
        step(checker, node, each)
    execute(cores[0], A)
    in_one_view = max(sum(views[node] == view for node in honest) for view in views)
    if in_one_view + len(liars) >= 3:
        step(checker, 0, cores[0])
    else:
        with pytest.raises(Violation, match="one view commits what is executed: node 0 executes 61616161 at 1"):
            step(checker, 0, cores[0])


def test_a_request_that_is_ordered_again_and_again() -> None:
    def run(times: int, by: Signer = CLIENT, **more: Any) -> None:
        one = core(batches={A: (requests.sign(by, [b"command"]),)}, **more)
        one.config.window = 100
        checker = watch(one)
        for _ in range(times):
            one.log.accepted[one.history.executed + 1] = vote(one.view.number, A)
            step(checker, 0, one)
            execute(one, A, history=bytes(one.history.executed))
            step(checker, 0, one)

    run(1 + AGAIN_MAX)
    with pytest.raises(Violation, match="no request is ordered for ever: node 0 proposes at 26"):
        run(2 + AGAIN_MAX)
    run(40, number=1)  # another proposes it, who may lie
    run(40, reach=40)  # it prepared in an earlier view
    run(40, by=ADMIN)  # who names the same members again signs the same bytes


def test_a_crash_may_take_back_what_nobody_heard_and_nothing_else() -> None:
    one = core()
    checker = watch(one)
    one.log.accepted[1] = vote(0, A)
    step(checker, 0, one, release=False)
    checker.started(0, core())
    two = core(accepted={1: vote(0, B)})
    checker.started(0, two)
    step(checker, 0, two)
    checker.started(0, core())
    three = core(accepted={1: vote(0, A)})
    checker.started(0, three)
    with pytest.raises(Violation, match="node 0 voted for 62626262 and 61616161 at 1 in view 0"):
        step(checker, 0, three)


def test_a_view_that_others_saw_is_not_left_by_a_crash() -> None:
    one = core(number=1, is_changing=True)
    checker = watch(one)
    step(checker, 0, one)
    checker.started(0, core(number=1))
    checker.started(0, core(number=1, is_changing=True))
    with pytest.raises(Violation, match="node 0 is back in view 0"):
        checker.started(0, core())


# --- state transfer ---

FILE = bytes(range(40))
IMAGE = in_pieces(Image(8, 20, A, len(FILE), B), FILE, 16)


@pytest.mark.parametrize("offset", [0, 16, 32])
def test_a_piece_that_is_proven_is_stored(offset: int) -> None:
    one = core()
    checker = watch(one)
    change(one, fetched=(IMAGE, None), source=1, offset=offset, writing=image_piece(IMAGE, FILE, offset), storing=IMAGE)
    step(checker, 0, one)
    change(one, fetched=None, writing=None)
    step(checker, 0, one)
    other = in_pieces(Image(16, 40, B, 24, A), b"another snapshot, newer!", 16)
    change(one, fetched=(other, None), offset=0, writing=image_piece(IMAGE, FILE, offset), storing=IMAGE)
    step(checker, 0, one)  # what is fetched changed in the step in which the piece came


def test_a_piece_that_nothing_proves_is_stored() -> None:
    right = image_piece(IMAGE, FILE, 16)
    for chunk, proof in (
        (replace(right.chunk, data=b"x" * 16), right.proof),
        (replace(right.chunk, data=b""), right.proof),
        (replace(right.chunk, offset=0), right.proof),
        (replace(right.chunk, offset=17), right.proof),
        (right.chunk, right.proof[1:]),
    ):
        one = core()
        checker = watch(one)
        change(one, fetched=(IMAGE, None), source=1, offset=16, writing=ImagePiece(chunk, proof), storing=IMAGE)
        with pytest.raises(Violation, match="only proven pieces are stored: node 0 stores what is no piece"):
            step(checker, 0, one)


PATIENCE = TURNS_MAX * PATIENCE_BEATS
"""In beats: how long a node may wait for one piece from one source."""


def beats(checker: PbftInvariants, one: SimpleNamespace, count: int) -> None:
    for _ in range(count):
        one.env.now += one.config.beat_s
        step(checker, 0, one)


def waiting() -> tuple[PbftInvariants, SimpleNamespace]:
    """A node that has waited as long as it may for the first piece."""
    one = core(fetched=(IMAGE, None), source=1)
    checker = watch(one)
    beats(checker, one, PATIENCE)
    return checker, one


def test_a_source_that_gives_nothing_and_is_kept() -> None:
    checker, one = waiting()
    with pytest.raises(Violation, match="a source that gives nothing is left: node 0 waits 8"):
        beats(checker, one, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"source": 2},
        {"offset": 16},
        {"fetched": None},
        {"writing": image_piece(IMAGE, FILE), "storing": IMAGE},
        {"stalled": "its disk is full"},
    ],
)
def test_patience_begins_anew_with_another_source_or_piece_and_while_the_node_itself_is_late(
    changes: dict[str, Any],
) -> None:
    checker, one = waiting()
    change(one, **changes)
    beats(checker, one, PATIENCE)


def test_a_pause_of_the_node_is_one_beat_of_its_patience() -> None:
    checker, one = waiting()
    change(one, source=2)
    step(checker, 0, one)
    one.env.now += 100.0
    beats(checker, one, PATIENCE - 1)
