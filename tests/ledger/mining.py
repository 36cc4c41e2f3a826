"""Blocks with real work, on a chain so easy that every second hash will do."""

from collections.abc import Sequence

from msgspec.structs import replace

from quorate.ledger.header import LedgerHeader
from quorate.ledger.sealer.compact import target_of
from quorate.ledger.sealer.difficulty import TEST_LIMIT, FixedDifficulty
from quorate.ledger.sealer.proof_of_work import ProofOfWork, hash_number

EASY_BITS = 0x207FFFFF
START_S = 1_700_000_000
BLOCK_S = 60
EASY = ProofOfWork(FixedDifficulty())
GENESIS = LedgerHeader(1, bytes(32), bytes(32), START_S, EASY_BITS)


def mined(draft: LedgerHeader, *, enough: bool = True, limit: int = TEST_LIMIT) -> LedgerHeader:
    """With the first nonce that gives it work, or the first that does not."""
    target = target_of(draft.bits, limit)
    assert target is not None
    while (hash_number(draft.id) <= target) is not enough:
        draft = replace(draft, nonce=draft.nonce + 1)
    return draft


def next_header(
    parent: LedgerHeader, payload: bytes = bytes(32), time_s: int = 0, bits: int = EASY_BITS
) -> LedgerHeader:
    """A child with work, a minute later if nothing else is said."""
    return mined(LedgerHeader(1, parent.id, payload, time_s or parent.time_s + BLOCK_S, bits))


def mined_chain(parent: LedgerHeader, payloads: Sequence[bytes]) -> list[LedgerHeader]:
    """One after the other."""
    headers = []
    for payload in payloads:
        parent = next_header(parent, payload)
        headers.append(parent)
    return headers
