"""What is said in the name of a node and not signed by it: it takes nothing from that node, and hides no proof."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import Blame, Env
from quorate.protocols.pbft import Pbft, PbftConfig
from quorate.protocols.pbft.messages import Prepare
from quorate.protocols.pbft.normal import NormalCase

from tests.protocols.pbft.pbft_nodes import (
    CONFIG,
    FOUR,
    Node,
    X,
    Y,
    checkpoint,
    commit,
    decided,
    new_view,
    offer,
    point,
    pre_prepare,
    prepare,
    prepared,
    view_change,
)

SEVEN = tuple(range(1, 8))
XY, YX = [(X,), (Y,)], [(Y,), (X,)]


def forged(message: Any) -> Any:
    """The same with nothing in the place of what proves it."""
    if "proofs" in message.__struct_fields__:
        return replace(message, proofs=tuple(bytes(len(proof)) for proof in message.proofs))
    return replace(message, signature=bytes(len(message.signature)))


def fresh() -> Node:
    """A backup that has heard nothing."""
    return Node()


def proposed() -> Node:
    """A backup that has accepted X."""
    node = Node()
    node.on(1, pre_prepare(1, X))
    return node


def executed() -> Node:
    """A backup that has executed X and Y, and so is at a checkpoint."""
    node = Node()
    node.order(1, X)
    node.order(2, Y)
    return node


def change_to_two(*certificates: Any) -> Any:
    return new_view({n: view_change(n, 2, *certificates) for n in (1, 3, 4)}, *([(X,)] if certificates else []))


IMPOSTURES: list[tuple[Callable[[], Node], int, Any, Any]] = [
    (fresh, 1, pre_prepare(1, Y), pre_prepare(1, X)),
    (fresh, 3, prepare(3, pre_prepare(1, Y)), prepare(3, pre_prepare(1, X))),
    (proposed, 3, prepare(3, pre_prepare(1, Y)), prepare(3, pre_prepare(1, X))),
    (proposed, 3, commit(3, pre_prepare(1, Y, view=4)), commit(3, pre_prepare(1, X))),
    (proposed, 3, decided(3, 1, pre_prepare(1, Y).digest), decided(3, 1, pre_prepare(1, X).digest)),
    (executed, 3, checkpoint(3, *point(*YX)), checkpoint(3, *point(*XY))),
    (fresh, 3, view_change(3, 2), view_change(3, 1)),
    (fresh, 3, change_to_two(prepared(1, X)), change_to_two()),
    (fresh, 3, offer(3), offer(3)),
]
"""The node, in whose name, what an imposter says there, and what the node itself says then."""


@pytest.mark.parametrize(
    ("make", "sender", "lie", "truth"),
    IMPOSTURES,
    ids=[f"{case[0].__name__}-{type(case[2]).__name__}" for case in IMPOSTURES],
)
def test_an_imposter_takes_nothing_from_a_node(make: Callable[[], Node], sender: int, lie: Any, truth: Any) -> None:
    node, control = make(), make()
    turn = node.on(sender, forged(lie))
    assert [blame.node for blame in turn.blames] == [sender], "who brought it, as far as this node can tell"
    assert (turn.records, turn.sends, turn.outputs) == ((), (), ())
    assert node.on(sender, truth) == control.on(sender, truth)


def test_nor_the_blame_for_a_second_vote() -> None:
    """What an imposter adds to a vote that counts shows nothing about the node."""
    node = proposed()
    node.on(3, prepare(3, pre_prepare(1, X)))
    (blame,) = node.on(3, forged(prepare(3, pre_prepare(1, Y)))).blames
    assert blame.why == "prepares with a signature that is wrong"
    node = executed()
    node.on(3, checkpoint(3, *point(*XY)))
    assert node.core.history.low == 0
    (blame,) = node.on(3, forged(checkpoint(3, *point(*YX)))).blames
    assert blame.why == "makes a checkpoint with a signature that is wrong"


@pytest.mark.parametrize("late", [False, True], ids=["before the pre-prepare", "after it"])
def test_a_proof_said_second_is_heard(late: bool) -> None:
    """f + 1 say what the primary told them: the first lies about its signature, and does not hide the second's."""
    node = Node(2, SEVEN)
    one, other = pre_prepare(1, X), pre_prepare(1, Y)
    if late:
        node.on(1, one)
    lie = prepare(7, other)
    turn = node.on(7, replace(lie, proposal=bytes(len(lie.proposal))))
    assert turn.blames == [Blame(7, "prepares what the primary did not propose")]
    turn = node.on(3, prepare(3, other))
    if not late:
        assert turn.blames == ()
        turn = node.on(1, one)
    assert turn.blames == [Blame(1, "proposes two batches at one number")]
    assert (node.core.view.number, node.core.view.is_changing) == (1, True)


def test_two_backups_show_it_before_the_primary_says_anything_here() -> None:
    node = Node()
    node.on(3, prepare(3, pre_prepare(1, X)))
    turn = node.on(4, prepare(4, pre_prepare(1, Y)))
    assert turn.blames == [Blame(1, "proposes two batches at one number")]
    assert node.core.view.is_changing


def test_a_node_that_does_not_vote_keeps_one_proposal_of_a_primary_that_lies() -> None:
    """It cannot leave the view, so more of them would be kept for as long as that lasts."""
    config = replace(CONFIG, members=FOUR, founders=(1, 2, 3, 4, 5))
    node = Node(5, (1, 2, 3, 4, 5), config=config)
    for number in range(20):
        proposal = pre_prepare(1, X, *[Y] * number)
        node.on(2 + number % 3, prepare(2 + number % 3, proposal))
    assert len(node.core.log.slots[1].proposals) == len(node.core.log.slots[1].collectors) == 1


# --- planted ---


class TakesOverFirst(NormalCase):
    """The first prepare that bears a node's name is its vote, whoever signed it."""

    def on_prepare(self, sender: int, m: Prepare) -> None:
        """As if it were checked."""
        slot = self._log.slot(m.sequence)
        if slot.prepare_of.setdefault(sender, m.digest) == m.digest:
            super().on_prepare(sender, m)


def test_an_imposter_would_cost_a_round_if_votes_were_taken_over_first() -> None:
    """That the test above would find it: the old rule, and a group of which every vote is needed."""

    def make(env: Env, config: PbftConfig, keys: Any) -> Pbft:
        return type("Planted", (Pbft,), {"normal_class": TakesOverFirst})(env, config, keys)

    outcomes = []
    for node in (Node(), Node(make=make)):
        node.on(1, pre_prepare(1, X))
        node.on(3, forged(prepare(3, pre_prepare(1, Y))))
        node.on(3, prepare(3, pre_prepare(1, X)))
        outcomes.append(node.core.log.slots[1].prepared is not None)
    assert outcomes == [True, False]
