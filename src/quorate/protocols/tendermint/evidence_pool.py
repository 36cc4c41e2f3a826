"""EvidencePool: double votes that were seen, until a block has them; and whether those in a block hold.

Two votes of one node for one step are evidence once their height is decided, since evidence has the time of its block.
A node that saw some puts it into the next block that it proposes. It is volatile: whoever crashes before that has
forgotten it, and at a checkpoint everybody forgets what was before.

A block that has evidence is refused unless the signatures hold, the height is not too long ago, and no block has had
evidence of this node, height, round and step; CometBFT compares all bytes of the evidence, some of which nobody signed.

Attacks on light clients are not looked for, and not accepted.

Source: CometBFT 0.38, ``spec/consensus/evidence.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from quorate.ledger.comet.blocks import Block
from quorate.ledger.comet.evidence import DuplicateVoteEvidence, Misconduct, duplicate_votes, evidence_bytes
from quorate.ledger.comet.evidence_checks import is_too_old, verify_duplicate_votes
from quorate.ledger.comet.params import EvidenceParams
from quorate.ledger.comet.times import Timestamp
from quorate.ledger.comet.validators import CometValidatorSet
from quorate.ledger.comet.votes import Vote
from quorate.parts.crypto.zip215 import VerifySignature


class Offence(NamedTuple):
    """What somebody is blamed for once."""

    address: bytes
    height: int
    round: int
    step: int


class PastHeight(NamedTuple):
    """What evidence of a height is checked by."""

    validators: CometValidatorSet
    time: Timestamp


class EvidencePool:
    """It knows the heights that are decided, as far back as evidence counts."""

    def __init__(self, chain_id: str, params: EvidenceParams, verify: VerifySignature) -> None:
        self._chain_id = chain_id
        self.params = params
        """How old evidence may be, and how much of it a block takes."""
        self._verify = verify
        self._seen: dict[Offence, tuple[Vote, Vote]] = {}  # at the open height
        self.waiting: dict[Offence, DuplicateVoteEvidence] = {}
        """That no block has yet."""
        self._committed: set[Offence] = set()
        self._past: dict[int, PastHeight] = {}
        # The hash of the newest validators, and these: most heights have the same.
        self._newest: tuple[bytes, CometValidatorSet | None] = (b"", None)

    def saw(self, one: Vote, other: Vote) -> None:
        """Two votes of one node for one step of the open height, signed, and for different blocks."""
        self._seen.setdefault(_offence_of(one), (one, other))

    def decided(self, block: Block, validators: CometValidatorSet) -> None:
        """The open height is decided by these validators."""
        header = block.header
        known, newest = self._newest
        if newest is not None and known == header.validators_hash:
            validators = newest
        self._newest = (header.validators_hash, validators)
        self._past[header.height] = PastHeight(validators, header.time)
        seen, self._seen = self._seen, {}
        for offence, votes in seen.items():
            self.waiting[offence] = duplicate_votes(*votes, validators.validators, header.time)
        for piece in block.evidence.evidence:
            if isinstance(piece, DuplicateVoteEvidence):
                self._committed.add(_offence_of(piece.vote_a))
                self.waiting.pop(_offence_of(piece.vote_a), None)
        self._forget(header.height, header.time)

    def forget_all(self) -> None:
        """What was before a checkpoint counts no more, so that nobody who begins there has to know of it."""
        self.waiting.clear()
        self._seen.clear()
        self._committed.clear()
        self._past.clear()

    def _forget(self, height: int, time: Timestamp) -> None:
        """What is too old."""
        while self._past:
            oldest = next(iter(self._past))
            age_ns = time.ns() - self._past[oldest].time.ns()
            if height - oldest <= self.params.max_age_num_blocks or age_ns <= self.params.max_age_duration.ns():
                return
            del self._past[oldest]
            self._committed = {offence for offence in self._committed if offence.height > oldest}
            self.waiting = {offence: piece for offence, piece in self.waiting.items() if offence.height > oldest}

    def to_propose(self, height: int, time: Timestamp) -> tuple[Misconduct, ...]:
        """The oldest, as many as a block of this height and time takes."""
        taken: list[Misconduct] = []
        size = 0
        for piece in self.waiting.values():
            if is_too_old(piece, height, time, self.params):
                continue
            size += len(evidence_bytes(piece)) + 16  # what is around it in the list
            if size > self.params.max_bytes:
                break
            taken.append(piece)
        return tuple(taken)

    def refusal(self, pieces: Sequence[Misconduct], height: int, time: Timestamp) -> str | None:
        """Why a block of this height and time must not have these; None: it may."""
        offences: set[Offence] = set()
        for piece in pieces:
            if not isinstance(piece, DuplicateVoteEvidence):
                return "evidence: of an attack on light clients, which is not supported"
            offence = _offence_of(piece.vote_a)
            if offence in self._committed or offence in offences:
                return "evidence: of what was committed before"
            past = self._past.get(piece.height)
            if past is None or is_too_old(piece, height, time, self.params):
                return f"evidence: of height {piece.height}, which is too old, or yet to come"
            try:
                verify_duplicate_votes(piece, self._chain_id, past.validators, past.time, self._verify)
            except ValueError as error:
                return str(error)
            offences.add(offence)
        return None


def _offence_of(vote: Vote) -> Offence:
    return Offence(vote.validator_address, vote.height, vote.round, vote.type)
