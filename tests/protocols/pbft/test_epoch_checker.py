"""The checker of epochs says nothing of what is right, and catches what is planted."""

from types import SimpleNamespace
from typing import Any

import pytest

from quorate.parts import requests
from quorate.parts.crypto.keys import Symbolic
from quorate.parts.log.configuration import Newcomer, encode_change
from quorate.protocols.pbft.epoch_invariants import PbftEpochs
from quorate.protocols.pbft.messages import PbftConfig
from quorate.sim.checkers.base import Violation

SCHEME = Symbolic(range(4), b"epochs")
ADMIN, CLIENT = SCHEME.client(1), SCHEME.client(2)
CONFIG = PbftConfig(checkpoint_batches=4, window=8, admins=(ADMIN.public,))
FOUNDERS = (0, 1, 2, 3)
LEFT = (0, 1, 2)


def change(members: tuple[int, ...] = LEFT, signer: Any = ADMIN, **more: Any) -> bytes:
    return requests.sign(signer, [encode_change(members, **more)])


def replica(
    batches: dict[int, tuple[bytes, ...]],
    executed: int,
    members: tuple[int, ...] = FOUNDERS,
    epoch: int = 0,
    began_at: int = 0,
) -> Any:
    """A node that executed so many batches, empty ones but for these, and has this group."""
    digests = {sequence: b"%d" % sequence for sequence in range(1, executed + 1)}
    log = SimpleNamespace(
        accepted_to=0, batches={digest: batches.get(sequence, ()) for sequence, digest in digests.items()}
    )
    return SimpleNamespace(
        config=CONFIG,
        env=SimpleNamespace(peers=FOUNDERS),
        view=SimpleNamespace(
            keys=SCHEME.keys(0), group=SimpleNamespace(members=members, epoch=epoch, began_at=began_at)
        ),
        history=SimpleNamespace(executed=executed, digests=digests),
        log=log,
    )


def watching() -> PbftEpochs:
    checker = PbftEpochs()
    for node in FOUNDERS:
        checker.started(node, replica({}, 0))
    return checker


def tell(checker: PbftEpochs, node: int) -> None:
    """What it did leaves it."""
    if (mark := checker.mark(node)) is not None:
        checker.released(node, mark)


def step(checker: PbftEpochs, node: int, core: Any) -> None:
    """It steps, on a disk that takes no time, and once more."""
    checker.stepped(node, core)
    tell(checker, node)
    checker.stepped(node, core)


def test_a_change_counts_after_the_first_checkpoint_a_window_later() -> None:
    checker, batches = watching(), {5: (change(),)}
    step(checker, 0, replica(batches, 15))
    step(checker, 0, replica(batches, 16))
    step(checker, 1, replica(batches, 16, LEFT, 1, 16))
    assert checker.epochs == [(0, FOUNDERS), (16, LEFT)]


@pytest.mark.parametrize(
    ("members", "began_at"), [(FOUNDERS, 16), (LEFT, 12), ((0, 1, 3), 16)], ids=["old members", "too soon", "others"]
)
def test_a_group_that_does_not_follow_from_what_was_executed(members: tuple[int, ...], began_at: int) -> None:
    checker = watching()
    with pytest.raises(Violation, match="each number by its own members: node 1 has the members"):
        step(checker, 1, replica({5: (change(),)}, 16, members, 1, began_at))


def test_a_node_that_runs_on_in_an_epoch_that_has_ended() -> None:
    checker = watching()
    step(checker, 1, replica({5: (change(),)}, 16, LEFT, 1, 16))
    with pytest.raises(Violation, match="node 2 executes 17 with the members of epoch 0, which ended at 16"):
        step(checker, 2, replica({5: (change(),)}, 17))


def test_a_vote_beyond_the_end_of_the_voters_epoch() -> None:
    checker = watching()
    step(checker, 1, replica({5: (change(),)}, 16, LEFT, 1, 16))
    behind = replica({}, 3)
    behind.log.accepted_to = 16
    step(checker, 2, behind)
    behind.log.accepted_to = 17
    with pytest.raises(Violation, match="node 2 votes at 17 as a member of epoch 0, which ended at 16"):
        step(checker, 2, behind)


def test_an_epoch_that_was_never_begun() -> None:
    with pytest.raises(Violation, match="by what was executed these are None"):
        step(watching(), 1, replica({}, 16, LEFT, 1, 16))


@pytest.mark.parametrize(
    "value",
    [
        change(signer=CLIENT),
        change(epoch=1),
        change(members=(0, 1, 7)),
        change(newcomers=[Newcomer(7, "n7:1", SCHEME.keys(0).public)]),
        change(leavers=(2,)),
        requests.sign(ADMIN, [encode_change(LEFT), encode_change(LEFT)]),
        b"no request",
    ],
    ids=["no administrator", "another epoch", "unknown", "key in use", "leaving member", "two at once", "no request"],
)
def test_what_changes_nobody(value: bytes) -> None:
    checker = watching()
    step(checker, 0, replica({5: (value,)}, 40))
    assert checker.epochs == [(0, FOUNDERS)]


def test_of_several_changes_before_one_checkpoint_the_last_holds_when_the_first_does() -> None:
    checker, others = watching(), (0, 1, 2, 3)
    step(checker, 0, replica({5: (change(),), 9: (change(others),)}, 16))
    assert checker.epochs == [(0, FOUNDERS), (16, others)]


def test_batches_that_one_node_skipped_by_a_snapshot_are_learned_from_another() -> None:
    checker, batches = watching(), {5: (change(),)}
    behind = replica(batches, 16, LEFT, 1, 16)
    behind.history.digests.clear()
    step(checker, 1, behind)
    assert checker.executed == 0
    step(checker, 2, replica(batches, 16))
    assert checker.executed == 16
    step(checker, 1, behind)


def test_what_a_node_executed_in_memory_alone_may_be_lost() -> None:
    checker = watching()
    checker.stepped(0, replica({5: (change(),)}, 16))
    checker.started(0, replica({}, 4))
    for node in (1, 0):
        step(checker, node, replica({}, 17))
    assert checker.epochs == [(0, FOUNDERS)]


def test_who_is_ahead_in_memory_is_judged_when_it_is_told() -> None:
    checker, batches = watching(), {5: (change(),)}
    checker.stepped(1, replica(batches, 16))
    checker.stepped(1, replica(batches, 16, (0, 1, 3), 1, 16))
    tell(checker, 1)
    with pytest.raises(Violation, match="node 1 has the members"):
        checker.stepped(1, replica(batches, 16, (0, 1, 3), 1, 16))


def test_what_is_told_in_another_order() -> None:
    checker, batches = watching(), {5: (change(),)}
    checker.stepped(1, replica(batches, 4))
    behind = replica(batches, 16)
    behind.history.digests = {sequence: digest for sequence, digest in behind.history.digests.items() if sequence > 4}
    step(checker, 2, behind)
    assert checker.executed == 0
    tell(checker, 1)
    assert checker.epochs == [(0, FOUNDERS), (16, LEFT)]
