"""What a client believes of a block that it knows by its id alone."""

import msgspec
import pytest

from quorate.ledger.chain_proofs import HeaderPair, InclusionProof, StateProof
from quorate.ledger.engine import ExecutedBlock
from quorate.ledger.native import NativeEngine
from quorate.parts.crypto.merkle import merkle_proofs

from tests.ledger.payers import CHAIN, GENESIS, PAYERS, block_of, env_of

ENGINE = NativeEngine(GENESIS)
PAYMENTS = [PAYERS[0].pays(CHAIN, nonce, PAYERS[1].address, 10 + nonce) for nonce in range(5)]
EXECUTED = ENGINE.execute(CHAIN, env_of(1), PAYMENTS, strict=True)
assert isinstance(EXECUTED, ExecutedBlock)
BLOCK = block_of(CHAIN, EXECUTED)
PAIR = HeaderPair(BLOCK.header, BLOCK.payload)


def inclusion(index: int) -> InclusionProof:
    proof = merkle_proofs(BLOCK.transactions)[1][index]
    return InclusionProof(PAIR, BLOCK.transactions[index], proof.total, proof.index, proof.aunts)


@pytest.mark.parametrize("index", range(5))
def test_a_transaction_is_proved(index: int) -> None:
    assert inclusion(index).refusal(BLOCK.id) is None


def test_no_other_transaction_block_or_place_is() -> None:
    good = inclusion(2)
    other = msgspec.structs.replace(BLOCK.payload, gas_used=1)
    assert good.refusal(CHAIN) == "the header is that of another block"
    for bad in (
        msgspec.structs.replace(good, raw=BLOCK.transactions[1]),
        msgspec.structs.replace(good, index=3),
        msgspec.structs.replace(good, total=4),
        msgspec.structs.replace(good, aunts=good.aunts[:-1]),
        msgspec.structs.replace(good, block=HeaderPair(BLOCK.header, other)),
    ):
        assert bad.refusal(BLOCK.id) is not None


def test_an_account_is_proved_and_no_other_state() -> None:
    assert isinstance(EXECUTED, ExecutedBlock)
    good = StateProof(PAIR, EXECUTED.state.proof(PAYERS[1].address))
    assert good.refusal(BLOCK.id) is None
    assert good.account.account.balance == 1_000_000 + 10 + 11 + 12 + 13 + 14
    old = StateProof(PAIR, GENESIS.state.proof(PAYERS[1].address))
    assert old.refusal(BLOCK.id) == "the proof leads to another root"
    assert good.refusal(CHAIN) is not None
    wrong = HeaderPair(BLOCK.header, msgspec.structs.replace(BLOCK.payload, state=GENESIS.state.root))
    assert StateProof(wrong, old.account).refusal(BLOCK.id) == "the payload header is not that of the header"
