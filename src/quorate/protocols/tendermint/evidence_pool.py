"""EvidencePool: evidence of misbehaviour until a block has it; and whether what is in a block holds.

Two votes of one node for one step are evidence once their height is decided, since evidence has the time of its block.
What waits goes into the next block that this node proposes. The pool is volatile; ``Accusing`` keeps what waits and
tells the other nodes of it. At a checkpoint everybody forgets what was before.

A block that has evidence is refused unless the signatures hold, the height is not too long ago, and no block has had
evidence of this node, height, round and step; CometBFT compares all bytes of the evidence, some of which nobody signed.

Attacks on light clients are not looked for here: a light client that saw one shows the evidence to a node. An attack
is blamed once, by the hash of its header, whoever signed it and whatever the common height; CometBFT takes it once for
each common height. It is judged by the commit that the next block holds, as that is the same at all nodes; so evidence
of the height before waits until there is one. A block that was signed for a height yet to come is judged by the chain's
last one, and again by that height's own when it is there. So what one node says of evidence is checked as of the height
at which that node judged it (``judge``): then the answer is the same at all.

Of a past height the header is kept, and of its commit the round and who signed. The signatures were checked before.

Source: CometBFT 0.38, ``spec/consensus/evidence.md``, ``evidence/verify.go``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from quorate.ledger.comet.blocks import Block
from quorate.ledger.comet.commits import ABSENT, FOR_BLOCK, FOR_NIL, Commit, CommitSig
from quorate.ledger.comet.evidence import (
    DuplicateVoteEvidence,
    LightClientAttackEvidence,
    Misconduct,
    duplicate_votes,
    evidence_bytes,
)
from quorate.ledger.comet.evidence_checks import is_too_old, verify_duplicate_votes, verify_light_client_attack
from quorate.ledger.comet.headers import Header
from quorate.ledger.comet.light_blocks import SignedHeader
from quorate.ledger.comet.params import EvidenceParams
from quorate.ledger.comet.times import Timestamp
from quorate.ledger.comet.validators import CometValidatorSet
from quorate.ledger.comet.votes import Vote
from quorate.parts.crypto.zip215 import VerifySignature

AROUND_BYTES: Final = 16
"""At most, of what is around a piece in a block's list."""
WHO_SIGNED: Final = {flag: CommitSig(flag) for flag in (ABSENT, FOR_BLOCK, FOR_NIL)}
"""By flag, an entry of a commit without its signature."""


class Attack(NamedTuple):
    """On light clients, by the header that was signed for them. No evidence of it is of a later height than its own."""

    header: bytes
    height: int


class Offence(NamedTuple):
    """What somebody is blamed for once."""

    address: bytes
    height: int
    round: int
    step: int


OffenceKey: TypeAlias = Offence | Attack


class Judgement(NamedTuple):
    """Why a piece is not taken; empty: it holds. ``is_lie``: no correct node has ever found that it does."""

    why: str = ""
    is_lie: bool = False


class PastHeight(NamedTuple):
    """What evidence of a height is checked by. ``commit``: that in the next block, without its signatures."""

    validators: CometValidatorSet
    header: Header
    commit: Commit | None = None


class EvidencePool:
    """It knows the heights that are decided, as far back as evidence counts."""

    def __init__(self, chain_id: str, params: EvidenceParams, verify: VerifySignature) -> None:
        self._chain_id = chain_id
        self.params = params
        """How old evidence may be, and how much of it a block takes."""
        self._verify = verify
        self._seen: dict[Offence, tuple[Vote, Vote]] = {}  # at the open height
        self.waiting: dict[OffenceKey, Misconduct] = {}
        """That no block has yet."""
        self._committed: set[OffenceKey] = set()
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
        self._add(block, validators)
        seen, self._seen = self._seen, {}
        for offence, votes in seen.items():
            self.waiting[offence] = duplicate_votes(*votes, validators.validators, header.time)
        for piece in block.evidence.evidence:
            self._committed.add(offence_key(piece))
            self.waiting.pop(offence_key(piece), None)
        self._forget(header.height, header.time)

    def _add(self, block: Block, validators: CometValidatorSet) -> None:
        """Its height, and the commit of the one before."""
        height, last = block.header.height, block.last_commit
        self._past[height] = PastHeight(validators, block.header)
        before = self._past.get(height - 1)
        if before is not None and last is not None:
            signed = tuple([WHO_SIGNED[entry.block_id_flag] for entry in last.signatures])
            self._past[height - 1] = before._replace(commit=Commit(last.height, last.round, last.block_id, signed))

    @property
    def last(self) -> int:
        """The height that was decided last; 0: none is known."""
        return next(reversed(self._past), 0)

    def is_known(self, piece: Misconduct) -> bool:
        """Whether it waits for a block, or a block has had it."""
        return offence_key(piece) in self.waiting or offence_key(piece) in self._committed

    def add(self, piece: Misconduct) -> None:
        """It was judged, and waits for a block."""
        self.waiting[offence_key(piece)] = piece

    def judge(self, piece: Misconduct, as_of: int) -> Judgement:
        """Whether it held when the chain had come to the height ``as_of``, and still does."""
        past, last = self._past.get(piece.height), self._past.get(self.last)
        is_attack = isinstance(piece, LightClientAttackEvidence)
        if past is None or last is None or as_of not in self._past or (is_attack and as_of - 1 not in self._past):
            return Judgement(f"evidence: height {piece.height} is too old, or yet to come")
        if is_too_old(piece, self.last + 1, last.header.time, self.params):
            return Judgement(f"evidence: height {piece.height} is too old")
        try:
            self._verify_piece(piece, past, as_of)
        except ValueError as error:
            return Judgement(str(error), is_lie=True)
        return Judgement("" if as_of == self.last else self._why_no_more(piece, past))

    def _why_no_more(self, piece: Misconduct, past: PastHeight) -> str:
        """It held once."""
        try:
            self._verify_piece(piece, past, self.last)
        except ValueError as error:
            return str(error)
        return ""

    @property
    def oldest(self) -> int:
        """The first height that evidence may still be of; 0: none is known."""
        return next(iter(self._past), 0)

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
            age_ns = time.ns() - self._past[oldest].header.time.ns()
            if height - oldest <= self.params.max_age_num_blocks or age_ns <= self.params.max_age_duration.ns():
                return
            del self._past[oldest]
            self._committed = {offence for offence in self._committed if offence.height > oldest}
            self.waiting = {offence: piece for offence, piece in self.waiting.items() if piece.height > oldest}

    def to_propose(self, height: int, time: Timestamp) -> tuple[Misconduct, ...]:
        """The oldest, as many as a block of this height and time takes."""
        taken: list[Misconduct] = []
        size = 0
        for piece in self.waiting.values():
            if is_too_old(piece, height, time, self.params) or not self._still_holds(piece, height, time):
                continue
            its = len(evidence_bytes(piece)) + AROUND_BYTES
            if size + its <= self.params.max_bytes:
                size += its
                taken.append(piece)
        return tuple(taken)

    def _still_holds(self, piece: Misconduct, height: int, time: Timestamp) -> bool:
        """An attack on a height that was yet to come is judged by that height's block when it has come."""
        return isinstance(piece, DuplicateVoteEvidence) or self.refusal([piece], height, time) is None

    def refusal(self, pieces: Sequence[Misconduct], height: int, time: Timestamp) -> str | None:
        """Why a block of this height and time must not have these; None: it may."""
        offences: set[OffenceKey] = set()
        for piece in pieces:
            offence = offence_key(piece)
            if offence in self._committed or offence in offences:
                return "evidence: of what was committed before"
            past = self._past.get(piece.height)
            if past is None or is_too_old(piece, height, time, self.params):
                return f"evidence: of height {piece.height}, which is too old, or yet to come"
            try:
                self._verify_piece(piece, past, self.last)
            except ValueError as error:
                return str(error)
            offences.add(offence)
        return None

    def _verify_piece(self, piece: Misconduct, past: PastHeight, as_of: int) -> None:
        """Raises ValueError unless it holds beside the chain up to that height."""
        if isinstance(piece, DuplicateVoteEvidence):
            verify_duplicate_votes(piece, self._chain_id, past.validators, past.header.time, self._verify)
        else:
            trusted = self._trusted(piece.conflicting_block.header.height, as_of)
            verify_light_client_attack(piece, past.header, past.validators, trusted, self._verify)

    def _trusted(self, height: int, as_of: int) -> SignedHeader:
        """The chain's at this height; its last one that has a commit, if the height is yet to come."""
        past = self._past.get(height if height <= as_of else as_of - 1)
        if past is None or past.commit is None or height == as_of:
            raise ValueError(f"evidence: against height {height}, whose commit is not in a block, or too old")
        return SignedHeader(past.header, past.commit)


def offence_key(piece: Misconduct) -> OffenceKey:
    """What it blames somebody for."""
    if isinstance(piece, LightClientAttackEvidence):
        header = piece.conflicting_block.header
        return Attack(header.hash(), header.height)
    return _offence_of(piece.vote_a)


def _offence_of(vote: Vote) -> Offence:
    return Offence(vote.validator_address, vote.height, vote.round, vote.type)
