"""Whether a commit decides a block: the signatures of more than two thirds of the power.

Three questions. A node asks whether the commit in a block is right, and checks every signature, those for nil too. A
light client asks whether enough validators signed. And it asks whether enough of those that it trusts signed; they may
be validators no longer, so it looks for them by address.

A fourth is ours: whether prevotes, in the form of a commit, show what a quorum prevoted. No such thing is in a block.

All raise ValueError, which says why not. What is cheap is checked first; signatures are last.

Source: CometBFT 0.38, ``types/validation.go``.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Final

from quorate.ledger.comet.block_ids import BlockID
from quorate.ledger.comet.commits import ABSENT, FOR_BLOCK, Commit
from quorate.ledger.comet.validators import CometValidator, CometValidatorSet
from quorate.ledger.comet.votes import PRECOMMIT, PREVOTE, SignedMessageType
from quorate.parts.crypto.zip215 import VerifySignature, verify_zip215

DECIDES: Final = Fraction(2, 3)
"""More than this part of the power decides."""


class NotEnoughTrust(ValueError):
    """Too little of the power that is trusted signed. The block may be right: ask for one in between."""


def verify_commit(
    chain_id: str,
    validators: CometValidatorSet,
    block_id: BlockID,
    height: int,
    commit: Commit,
    verify: VerifySignature = verify_zip215,
) -> None:
    """Raises ValueError unless the commit is for this block, every signature in it holds, and they decide."""
    signers = _signers(validators, block_id, height, commit)
    _check_power(_for_block(commit, signers), validators, DECIDES)
    _check_signatures(chain_id, commit, signers, verify)


def verify_prevotes(
    chain_id: str,
    validators: CometValidatorSet,
    block_id: BlockID,
    height: int,
    prevotes: Commit,
    verify: VerifySignature = verify_zip215,
) -> None:
    """Raises ValueError unless this, which is made like a commit, has prevotes for the block that would decide it."""
    signers = _for_block(prevotes, _signers(validators, block_id, height, prevotes))
    _check_power(signers, validators, DECIDES)
    _check_signatures(chain_id, prevotes, signers, verify, PREVOTE)


def verify_commit_light(
    chain_id: str,
    validators: CometValidatorSet,
    block_id: BlockID,
    height: int,
    commit: Commit,
    verify: VerifySignature = verify_zip215,
) -> None:
    """Raises ValueError unless the commit is for this block, and the signatures for it hold and decide.

    Those after enough power are checked too, unlike CometBFT's light client, whose answer may hang on their order.
    """
    signers = _for_block(commit, _signers(validators, block_id, height, commit))
    _check_power(signers, validators, DECIDES)
    _check_signatures(chain_id, commit, signers, verify)


def verify_commit_trusting(
    chain_id: str,
    trusted: CometValidatorSet,
    commit: Commit,
    trust_level: Fraction,
    verify: VerifySignature = verify_zip215,
) -> None:
    """Raises ValueError unless validators of more than this part of the trusted power signed for the commit's block.

    NotEnoughTrust, a ValueError, if it is only too little power.
    """
    known = trusted.by_address()
    signers: dict[int, CometValidator] = {}
    seen: dict[bytes, int] = {}
    for i, signature in enumerate(commit.signatures):
        validator = known.get(signature.validator_address)
        if signature.block_id_flag == FOR_BLOCK and validator is not None:
            first = seen.setdefault(validator.address, i)
            if first != i:
                raise ValueError(f"commit: validator {validator.address.hex()} is in it twice, at {first} and {i}")
            signers[i] = validator
    _check_power(signers, trusted, trust_level, NotEnoughTrust)
    _check_signatures(chain_id, commit, signers, verify)


def _signers(
    validators: CometValidatorSet, block_id: BlockID, height: int, commit: Commit
) -> dict[int, CometValidator]:
    """By entry, the validator who signed, for the block or for nil. Raises ValueError if it is another's commit."""
    if len(commit.signatures) != len(validators.validators):
        raise ValueError(f"commit: {len(commit.signatures)} entries for {len(validators.validators)} validators")
    if commit.height != height:
        raise ValueError(f"commit: of height {commit.height}, not {height}")
    if commit.block_id != block_id:
        raise ValueError(f"commit: for block {commit.block_id.hash.hex()}, not {block_id.hash.hex()}, or other parts")
    signers = {}
    for i, (signature, validator) in enumerate(zip(commit.signatures, validators.validators, strict=True)):
        if signature.block_id_flag != ABSENT:
            if signature.validator_address != validator.address:
                address = signature.validator_address.hex()
                raise ValueError(f"commit: entry {i} is of {address}, not of validator {validator.address.hex()}")
            signers[i] = validator
    return signers


def _for_block(commit: Commit, signers: dict[int, CometValidator]) -> dict[int, CometValidator]:
    """Those of them who signed for the block."""
    return {i: signer for i, signer in signers.items() if commit.signatures[i].block_id_flag == FOR_BLOCK}


def _check_power(
    signers: dict[int, CometValidator],
    validators: CometValidatorSet,
    more_than: Fraction,
    error: type[ValueError] = ValueError,
) -> None:
    power, total = _power(signers.values()), validators.power()
    if power <= total * more_than:
        raise error(f"commit: a power of {power} signed for the block, of {total}: it takes more than {more_than}")


def _power(validators: Iterable[CometValidator]) -> int:
    return sum(validator.voting_power for validator in validators)


def _check_signatures(
    chain_id: str,
    commit: Commit,
    signers: dict[int, CometValidator],
    verify: VerifySignature = verify_zip215,
    kind: SignedMessageType = PRECOMMIT,
) -> None:
    for i, validator in signers.items():
        signature = commit.signatures[i].signature
        if not verify(validator.pub_key.ed25519, commit.sign_bytes(chain_id, i, kind), signature):
            raise ValueError(f"commit: the signature of validator {validator.address.hex()}, entry {i}, is wrong")
