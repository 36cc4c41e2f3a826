"""The checker of chains: each thing that a chain must not do is seen."""

import pytest

from quorate.parts.log.chain import Extended, Finalised, Rewound
from quorate.sim.checkers.base import Violation
from quorate.sim.checkers.chain import ChainAgreement


def block(name: str, parent: str, height: int) -> Extended:
    return Extended(name.encode(), parent.encode(), height, None)


def checker(*outputs: object, node: int = 0) -> ChainAgreement:
    """After a chain g - a - b - c, and these."""
    found = ChainAgreement(b"g")
    for value in (block("a", "g", 1), block("b", "a", 2), block("c", "b", 3), *outputs):
        found.output(node, value)
    return found


def test_a_chain_may_rewind_what_is_not_final() -> None:
    found = checker(Finalised(b"a", 1), Rewound(b"a", (b"c", b"b")), block("d", "a", 2), Finalised(b"d", 2))
    assert (found.head(0), found.rewinds, found.deepest, found.agreed) == (b"d", 1, 2, [b"g", b"a", b"d"])


def test_a_restarted_node_hands_its_chain_up_again() -> None:
    assert checker(block("b", "a", 2), block("c", "b", 3)).head(0) == b"c"


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        ([block("d", "b", 4)], "another parent"),
        ([block("d", "c", 5)], "another parent"),
        ([Rewound(b"x", ())], "not on its chain"),
        ([Rewound(b"a", (b"b", b"c"))], "names other blocks"),
        ([Rewound(b"a", (b"c",))], "names other blocks"),
        ([Finalised(b"b", 2), Rewound(b"a", (b"c", b"b"))], "below what it called final"),
        ([Finalised(b"b", 3)], "not on its chain at 3"),
        ([Finalised(b"d", 4)], "not on its chain at 4"),
    ],
)
def test_what_a_chain_must_not_do(outputs: list[object], why: str) -> None:
    with pytest.raises(Violation, match=why):
        checker(*outputs)


def test_two_nodes_with_two_final_chains_are_seen() -> None:
    found = checker(Finalised(b"b", 2))
    found.output(1, block("x", "g", 1))
    with pytest.raises(Violation, match="another block final at 1"):
        found.output(1, Finalised(b"x", 1))
