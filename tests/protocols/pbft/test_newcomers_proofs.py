"""View-changes of a node that has joined: jobs check them, with a keyring that has founders alone."""

from quorate.kernel import Job
from quorate.kernel.inputs import Done
from quorate.parts.crypto.keys import Symbolic, VerifyBatch

from tests.protocols.pbft.pbft_nodes import FOUR, Node, view_change

FOUNDERS, JOINED = FOUR[:3], FOUR[3]
DEALER = Symbolic(FOUNDERS)
"""Its keys are those of SCHEME for the same nodes."""
STATIC = DEALER.keyring()
DEALER.join(JOINED)


class Founder(Node):
    """Node 2. Its core knows node 4's key, as if from the log; what its runtime checks with has the founders' alone."""

    def _check(self, job: Job) -> Done:
        if not isinstance(job.work, VerifyBatch):
            return super()._check(job)
        return Done(job.key, STATIC.verify_batch(job.work), job.path)


def test_a_newcomer_s_view_change_counts() -> None:
    assert JOINED not in STATIC.nodes
    node = Founder()
    node.on(1, view_change(1, 1))
    assert node.core.view.number == 0
    turn = node.on(JOINED, view_change(JOINED, 1))
    assert not turn.blames
    assert node.core.view.number == 1, "f + 1 others have left"


def test_a_signature_that_is_not_the_newcomer_s_counts_for_nothing() -> None:
    node = Founder()
    node.on(1, view_change(1, 1))
    turn = node.on(JOINED, view_change(3, 1))
    assert [blame.node for blame in turn.blames] == [JOINED]
    assert node.core.view.number == 0
