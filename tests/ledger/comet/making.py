"""Chains that a test makes: validators whose keys it has, and headers that they sign whatever is in them."""

from collections.abc import Collection, Sequence
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from quorate.ledger.comet.block_ids import BlockID, PartSetHeader
from quorate.ledger.comet.commits import ABSENT, FOR_BLOCK, FOR_NIL, Commit, CommitSig
from quorate.ledger.comet.headers import ConsensusVersion, Header
from quorate.ledger.comet.light_blocks import LightBlock, SignedHeader
from quorate.ledger.comet.times import NS_PER_S, Timestamp
from quorate.ledger.comet.validators import CometValidator, CometValidatorSet, ValidatorKey
from quorate.ledger.comet.votes import Vote, vote_sign_bytes

CHAIN = "a-test"
START = Timestamp(1_800_000_000)
HASH = bytes(range(32))


@cache
def secret(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))


@cache
def owner(address: bytes) -> Ed25519PrivateKey:
    return next(secret(n) for n in range(1, 200) if validator(n, 1).address == address)


@cache
def validator(number: int, power: int) -> CometValidator:
    key = ValidatorKey(secret(number).public_key().public_bytes_raw())
    return CometValidator(key.address, key, power)


def validators(powers: dict[int, int]) -> CometValidatorSet:
    """By number, the power, in the order of a set."""
    found = [validator(number, power) for number, power in powers.items()]
    ordered = tuple(sorted(found, key=lambda v: (-v.voting_power, v.address)))
    return CometValidatorSet(ordered, ordered[0])


def at(height: int) -> Timestamp:
    """A second a block."""
    return START.plus_ns(height * NS_PER_S)


def header(height: int, now: CometValidatorSet, then: CometValidatorSet, **changes: object) -> Header:
    made = Header(
        version=ConsensusVersion(),
        chain_id=CHAIN,
        height=height,
        time=at(height),
        last_block_id=BlockID(HASH, PartSetHeader(1, HASH)),
        last_commit_hash=HASH,
        data_hash=HASH,
        validators_hash=now.hash(),
        next_validators_hash=then.hash(),
        consensus_hash=HASH,
        app_hash=b"app",
        last_results_hash=HASH,
        evidence_hash=HASH,
        proposer_address=now.validators[0].address,
    )
    return replace(made, **changes)


def sign(vote: Vote) -> Vote:
    return replace(vote, signature=owner(vote.validator_address).sign(vote_sign_bytes(CHAIN, vote)))


def commit(
    block_id: BlockID,
    height: int,
    members: Sequence[CometValidator],
    absent: Collection[int] = (),
    nil: Collection[int] = (),
    round_: int = 0,
) -> Commit:
    """``absent`` and ``nil``: entries by their place."""
    signatures = []
    unsigned = Commit(height, round_, block_id)
    for i, member in enumerate(members):
        if i in absent:
            signatures.append(CommitSig(ABSENT))
            continue
        flag = FOR_NIL if i in nil else FOR_BLOCK
        entry = CommitSig(flag, member.address, at(height).plus_ns(i), bytes(64))
        vote = replace(unsigned, signatures=(*[CommitSig(ABSENT)] * i, entry)).vote(i)
        signatures.append(replace(entry, signature=sign(vote).signature))
    return replace(unsigned, signatures=tuple(signatures))


def block(
    height: int,
    now: CometValidatorSet,
    then: CometValidatorSet | None = None,
    *,
    absent: Collection[int] = (),
    nil: Collection[int] = (),
    round_: int = 0,
    **changes: object,
) -> LightBlock:
    """A light block, whose validators sign whatever the changes make of its header."""
    made = header(height, now, then or now, **changes)
    block_id = BlockID(made.hash(), PartSetHeader(1, HASH))
    signed = SignedHeader(made, commit(block_id, height, now.validators, absent, nil, round_))
    return LightBlock(signed, now)
