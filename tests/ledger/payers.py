"""Keys with money for tests, the chain that begins with them, and the payments that they sign."""

from __future__ import annotations

from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from quorate.ledger.accounts import address_of_key
from quorate.ledger.block import LedgerBlock
from quorate.ledger.engine import BlockEnv, ExecutedBlock
from quorate.ledger.genesis import BLOCK_VERSION, Genesis
from quorate.ledger.header import LedgerHeader
from quorate.ledger.native import NativeEngine
from quorate.ledger.transaction import Payment, Signatures, message_of, signed_part

FUNDS = 1_000_000
_SIGNED: dict[tuple[object, ...], Payment] = {}  # campaigns make the same ones again
COLLECTOR = bytes(19) + b"c"


class Payer:
    """A key, by its number."""

    def __init__(self, number: int) -> None:
        self.key = Ed25519PrivateKey.from_private_bytes(sha256(b"payer %d" % number).digest())
        self.public = self.key.public_key().public_bytes_raw()
        self.address = address_of_key(self.public)

    def raw(self, chain: bytes, nonce: int, to: bytes, amount: int, fee: int = 0) -> bytes:
        signed = signed_part(chain, self.public, nonce, to, amount, fee)
        return signed + self.key.sign(message_of(signed))

    def pays(self, chain: bytes, nonce: int, to: bytes, amount: int, fee: int = 0) -> Payment:
        key = (self.public, chain, nonce, to, amount, fee)
        if key not in _SIGNED:
            payment = Signatures(chain).decode(self.raw(chain, nonce, to, amount, fee))
            assert isinstance(payment, Payment), payment
            _SIGNED[key] = payment
        return _SIGNED[key]


PAYERS = [Payer(number) for number in range(6)]


def genesis_of(payers: list[Payer] = PAYERS, funds: int = FUNDS, subsidy: int = 7, fee_min: int = 0) -> Genesis:
    accounts = tuple(sorted((payer.address, funds) for payer in payers))
    return Genesis("test", 1_700_000_000, COLLECTOR, accounts, subsidy, fee_min)


GENESIS = genesis_of()
CHAIN = GENESIS.id


def env_of(height: int, proposer: bytes = COLLECTOR) -> BlockEnv:
    return BlockEnv(height, GENESIS.time_s + height, proposer)


def block_of(parent: bytes, executed: ExecutedBlock[Payment], nonce: int = 0) -> LedgerBlock:
    header = LedgerHeader(BLOCK_VERSION, parent, executed.payload.hash, executed.payload.height, 0, nonce)
    return LedgerBlock(header, executed.payload, tuple(payment.raw for payment in executed.included))


def extended(engine: NativeEngine, parent: bytes, height: int, payments: list[Payment], nonce: int = 0) -> bytes:
    """Have a block of these executed and kept; its id."""
    executed = engine.execute(parent, env_of(height), payments, strict=True)
    assert isinstance(executed, ExecutedBlock), executed
    id = block_of(parent, executed, nonce).id
    engine.keep(id, parent, executed)
    return id
