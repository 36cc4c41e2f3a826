"""Group: who votes, who leads a view, and whether a certificate or a view-change holds among them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from quorate.parts.crypto.keys import Keys, Signed
from quorate.parts.quorum import Byzantine
from quorate.parts.votes.certificate import Certificate, Collector, has_quorum, verify
from quorate.protocols.pbft.messages import (
    CHECKPOINT,
    NODES_MAX,
    NULL,
    PREPARE,
    VIEW_CHANGE,
    NewView,
    PbftConfig,
    ViewChange,
    checkpoint_of,
    order_of,
    view_change_statement,
)

EPOCH_SHIFT = 32
START = (0, 0, bytes(32))
"""Sequence, index and history before the first batch."""
NO_SIGNATURE = "bears a signature that is wrong"
NO_CHECKPOINT = "rests on a checkpoint that is not proven"
NO_ORDERS = "lists orders that are not proven"


class Group:
    """The members of one epoch, n of which f may lie, n >= 3f + 1. A quorum is 2f + 1 where n = 3f + 1.

    The high bits of a view are its epoch, so that nothing that was said in one counts in another.
    """

    def __init__(
        self,
        members: Sequence[int],
        keys: Keys,
        epoch: int = 0,
        began_at: int = 0,
        past_members: Sequence[int] = (),
    ) -> None:
        """``past_members`` made the checkpoint at ``began_at``. Raises ValueError where there are no members."""
        self.epoch = epoch
        self.began_at = began_at
        self.past_members = tuple(past_members)
        self.first_view = epoch << EPOCH_SHIFT
        self.members = tuple(sorted(set(members)))
        self.quorum = Byzantine(self.members)
        self.keys = keys

    def primary(self, view: int) -> int:
        """§4: the views go round the members."""
        return self.members[(view - self.first_view) % len(self.members)]

    def is_view(self, view: int) -> bool:
        """Whether it is of this epoch."""
        return view >> EPOCH_SHIFT == self.epoch

    def has(self, node: int) -> bool:
        """Whether it votes."""
        return bool(self.quorum.members >> node & 1)

    def makes(self, node: int, sequence: int) -> bool:
        """Whether its word counts for the checkpoint at this number: those before the epoch's first are not its own."""
        return node in (self.members if sequence > self.began_at else self.past_members or self.members)

    # --- what proves something ---

    def collector(self, context: str, statement: bytes, blame: Callable[[int, str], None]) -> Collector:
        """For the votes of one statement."""
        return Collector(context, statement, self.keys.keyring, self.quorum, blame)

    def is_stable(self, certificate: Certificate) -> bool:
        """§4.3: whether it proves a checkpoint."""
        point = checkpoint_of(certificate.statement)
        if certificate.context != CHECKPOINT or point is None:
            return False
        return verify(certificate, self.keys.keyring, self._makers_of(point[0]))

    def _makers_of(self, sequence: int) -> Byzantine:
        """Who makes the checkpoint at this number."""
        is_first = sequence == self.began_at and self.past_members
        return Byzantine(self.past_members) if is_first else self.quorum

    def why_odd(self, change: ViewChange, window: int) -> str | None:
        """§4.4: what is wrong with a view-change whoever signed it; None where nothing is. Looks at no signature."""
        low = 0
        if change.stable is not None:
            stable = checkpoint_of(change.stable.statement)
            if stable is None:
                return "names no checkpoint"
            if change.stable.context != CHECKPOINT or not has_quorum(change.stable, self._makers_of(stable[0])):
                return NO_CHECKPOINT
            low = stable[0]
        last = low
        for certificate in change.prepared:
            order = order_of(certificate.statement)
            if order is None or not last < order[1] <= low + window or not order[0] < change.view:
                return "lists orders that are out of place"
            last = order[1]
        if not all(c.context == PREPARE and has_quorum(c, self.quorum) for c in change.prepared):
            return NO_ORDERS
        return None

    def claims_of(self, node: int, change: ViewChange) -> list[Signed]:
        """What is to be checked of a view-change that is not odd: it is proven if all of it holds."""
        statement = view_change_statement(change.view, change.stable, change.prepared)
        claims = [Signed(node, VIEW_CHANGE, statement, change.signature)]
        if change.stable is not None:
            claims += change.stable.signed()
        for certificate in change.prepared:
            claims += certificate.signed()
        return claims

    # --- what nobody shows to a third ---

    def prove(self, context: str, statement: bytes, by_mac: bool, nodes: Sequence[int]) -> tuple[bytes, ...]:
        """That this node says it, to each of these nodes."""
        if by_mac:
            return self.keys.macs(context, statement, nodes)
        return (self.keys.sign(context, statement),)

    def is_proven(self, node: int, context: str, statement: bytes, proofs: tuple[bytes, ...], by_mac: bool) -> bool:
        """Whether that node says it, as far as this one can tell.

        Nobody else could have made the MAC for this node, wherever it stands: while nodes come and go, the sender may
        know others than this node does.
        """
        if not by_mac:
            return len(proofs) == 1 and self.keys.verify(node, context, statement, proofs[0])
        return len(proofs) <= NODES_MAX and self.keys.has_mac(node, context, statement, proofs)


def founders_of(config: PbftConfig, peers: Sequence[int], keys: Keys) -> tuple[int, ...]:
    """The nodes that the cluster began with: ``peers`` if the config names none.

    Raises ValueError for members that are no founders, and for founders without a key.
    """
    founders = tuple(sorted(set(config.founders or peers)))
    if unknown := sorted(set(config.members) - set(founders)):
        raise ValueError(f"nodes {unknown} are members and not in the group {list(founders)}")
    if unknown := sorted(set(founders) - set(keys.keyring.nodes)):
        raise ValueError(f"the keyring has no key for nodes {unknown}, which the cluster began with")
    return founders


def point_of(certificate: Certificate | None) -> tuple[int, int, bytes]:
    """Sequence, index and history of a verified checkpoint; of the beginning where there is none."""
    return START if certificate is None else checkpoint_of(certificate.statement) or START


def reach_of(message: NewView) -> int:
    """Up to where a new view goes on from earlier ones. Beyond it, nothing was committed in them."""
    stables = (point_of(change.stable)[0] for _, change in message.changes)
    return max([*stables, *(proposal.sequence for proposal in message.proposals)])


def select(changes: Sequence[ViewChange]) -> tuple[Certificate | None, list[tuple[int, bytes]]]:
    """§4.4, the set O: from which checkpoint a new view goes on, and what it proposes, by sequence number.

    For each number between the latest checkpoint and the highest that anybody prepared: what was prepared in the
    highest view, or the null request. Pure, so that backups find the same. Proven, so that no liar can hide what was
    prepared: what any correct node committed, a quorum prepared, and every quorum of view-changes has one of them.
    """
    stable = max((change.stable for change in changes), key=lambda certificate: point_of(certificate)[0])
    low = point_of(stable)[0]
    best: dict[int, tuple[int, bytes]] = {}
    for change in changes:
        for certificate in change.prepared:
            order = order_of(certificate.statement)
            assert order is not None  # the change was checked
            view, sequence, digest = order
            if sequence > low and view >= best.get(sequence, (-1, b""))[0]:
                best[sequence] = (view, digest)
    high = max(best, default=low)
    return stable, [(sequence, best.get(sequence, (0, NULL))[1]) for sequence in range(low + 1, high + 1)]
