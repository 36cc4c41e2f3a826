"""Two sources tell a light client of two chains: where they part, and the evidence of it.

How it works. The client has verified a trace: the block that it trusted, and the primary's that led it to the one it
asked for. A witness shows another block. It is asked for its own blocks at the heights of the trace, and each is
verified from the one before. Where the first of them is proven and is not the trace's, a third of the power or more has
lied: to this client, or to the witness. Neither is believed then.

Whose chain is true, the client cannot know. So it makes evidence twice: against the primary, for the nodes of the
witness's chain; and with the two exchanged, against the witness. Only one of them holds on the true chain.

If the witness has no block as high as the primary's, though its last one is not earlier, the primary signed ahead of
the chain (a forward lunatic attack). What conflicts then is the block of the trace above the witness's last one.

Source: CometBFT 0.38, ``spec/light-client/accountability``, ``light/detector.go``.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import msgspec
from msgspec.structs import replace

from quorate.ledger.comet.evidence import LightClientAttackEvidence
from quorate.ledger.comet.evidence_checks import blamed, is_lunatic
from quorate.ledger.comet.light_blocks import LightBlock
from quorate.ledger.comet.light_client import TrustOptions, bisection
from quorate.ledger.comet.times import Timestamp


class Divergence(msgspec.Struct, frozen=True):
    """Where two sources part."""

    trace: tuple[LightBlock, ...]
    """The witness's, verified: the last block that both have, and those that led to its own."""
    conflicting: LightBlock
    """The primary's."""

    def evidence(self) -> LightClientAttackEvidence:
        """Against the primary, for who takes the witness's chain for true."""
        return attack_evidence(self.conflicting, self.trace[-1], self.trace[0])


def find_divergence(
    trace: Sequence[LightBlock], shown: LightBlock, options: TrustOptions, now: Timestamp
) -> Generator[int, LightBlock, Divergence]:
    """``trace``: the block that was trusted, and the primary's that were verified from there, in order; one at least.
    ``shown``: the witness's instead of the last of them; or its latest, if it is lower and not earlier than that.

    Yields a height, and takes the witness's light block by ``send``. Raises ValueError if the witness cannot prove what
    it shows, or if it has the same blocks or none that matter: then it is the witness that is no good.
    """
    if not trace or shown.header.height > trace[-1].header.height:
        raise ValueError("what the witness shows is above the trace")
    common = trace[0]
    if shown.header.height < common.header.height:
        raise ValueError(f"the witness shows height {shown.header.height}, below the trusted {common.header.height}")
    if not _is_same((yield from _block_at(common.header.height, shown)), common):
        raise ValueError("the witness has another block than the trusted one")
    for block in trace[1:]:
        if block.header.height > shown.header.height:
            return (yield from _ahead(common, block, shown, options, now))
        other = yield from _block_at(block.header.height, shown)
        steps = yield from bisection(common, other, options, now)
        if not _is_same(other, block):
            return Divergence((common, *steps), block)
        common = other
    raise ValueError("the witness has the same blocks")


def _ahead(
    common: LightBlock, block: LightBlock, shown: LightBlock, options: TrustOptions, now: Timestamp
) -> Generator[int, LightBlock, Divergence]:
    """The block is above all that the witness has. That is a lie if it is not later."""
    if block.header.time > shown.header.time:
        raise ValueError("the witness is behind, and may still come to the same block")
    steps: list[LightBlock] = []
    if common.header.height < shown.header.height:
        steps = yield from bisection(common, shown, options, now)
    return Divergence((common, *steps), block)


def _block_at(height: int, shown: LightBlock) -> Generator[int, LightBlock, LightBlock]:
    """The witness's."""
    if shown.header.height == height:
        return shown
    block = yield height
    if block.header.height != height:
        raise ValueError(f"asked for height {height}, got {block.header.height}")
    return block


def _is_same(one: LightBlock, other: LightBlock) -> bool:
    return one.header.hash() == other.header.hash()


def attack_evidence(conflicting: LightBlock, trusted: LightBlock, common: LightBlock) -> LightClientAttackEvidence:
    """What proves the attack to nodes of the trusted chain. ``trusted``: of the conflicting block's height, or the last
    one; ``common``: before both.

    A header that follows on no state of the chain is blamed on who was a validator at the common height. Any other was
    made by the validators of its own height, which is the common one then.
    """
    piece = LightClientAttackEvidence(conflicting)
    at = common if is_lunatic(piece, trusted.header) else trusted
    piece = replace(
        piece,
        common_height=at.header.height,
        total_voting_power=at.validator_set.power(),
        timestamp=at.header.time,
    )
    return replace(piece, byzantine_validators=tuple(blamed(piece, common.validator_set, trusted.signed_header)))
