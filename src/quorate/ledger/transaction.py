"""Payment: the transaction of the native engine, its only encoding, and the check of its signature.

    version 1 | chain 32 | sender 32 | nonce 8 | to 20 | amount 8 | fee 8 | signature 64      = 173 bytes

``chain`` is the id of the chain's first block, so that nobody repeats a payment on another chain. ``sender`` is an
Ed25519 public key. Numbers are big-endian. Every field has a fixed width: two different encodings are two different
payments. The signature is of ``DOMAIN`` and all that stands before it, by the rules of ZIP-215, whose answer is the
same on every node for any bytes (``parts/crypto/zip215.py``). The id is the double SHA-256 of all 173 bytes.

A node checks each signature once: ``Signatures`` remembers by id what was right. The id covers the signature, so
nothing else can pass under it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.ledger.accounts import PUBLIC_KEY_BYTES, SUPPLY_MAX, address_of_key
from quorate.ledger.block import ADDRESS_BYTES
from quorate.ledger.header import HASH_BYTES, sha256d
from quorate.ledger.ruling import POINTS_OF_A_BAN, Ruling
from quorate.parts.crypto.zip215 import VerifySignature, verify_zip215

VERSION: Final = 1
SIGNATURE_BYTES: Final = 64
SIGNED_BYTES: Final = 1 + HASH_BYTES + PUBLIC_KEY_BYTES + 8 + ADDRESS_BYTES + 8 + 8
PAYMENT_BYTES: Final = SIGNED_BYTES + SIGNATURE_BYTES
DOMAIN: Final = b"quorate payment\0"
"""Before what is signed, so that no other thing that a key signs is a payment."""
NONCE_MAX: Final = 2**63 - 1
REMEMBERED_MAX: Final = 100_000
"""Payments whose signatures are known to be right; as many more of those that came before."""

_SENDER: Final = 1 + HASH_BYTES
_NONCE: Final = _SENDER + PUBLIC_KEY_BYTES
_TO: Final = _NONCE + 8
_AMOUNT: Final = _TO + ADDRESS_BYTES
_FEE: Final = _AMOUNT + 8


class Payment(msgspec.Struct, frozen=True, gc=False):
    """One that is signed rightly; made by ``Signatures.decode`` and by tests alone."""

    raw: bytes
    id: bytes
    sender: bytes
    """An address, as is ``to``."""
    nonce: int
    to: bytes
    amount: int
    fee: int

    @property
    def cost(self) -> int:
        """What it takes from the sender."""
        return self.amount + self.fee


def signed_part(chain: bytes, public: bytes, nonce: int, to: bytes, amount: int, fee: int) -> bytes:
    """All but the signature. Raises ValueError for what no payment can have."""
    if len(chain) != HASH_BYTES or len(public) != PUBLIC_KEY_BYTES or len(to) != ADDRESS_BYTES:
        raise ValueError("a chain's id and a public key have 32 bytes, an address 20")
    if not 0 <= nonce <= NONCE_MAX:
        raise ValueError(f"nonce {nonce}: it is at least 0 and at most {NONCE_MAX}")
    if not 1 <= amount <= SUPPLY_MAX:
        raise ValueError(f"amount {amount}: it is at least 1 and at most {SUPPLY_MAX}")
    if not 0 <= fee <= SUPPLY_MAX:
        raise ValueError(f"fee {fee}: it is at least 0 and at most {SUPPLY_MAX}")
    head = bytes((VERSION,)) + chain + public + nonce.to_bytes(8, "big")
    return head + to + amount.to_bytes(8, "big") + fee.to_bytes(8, "big")


def message_of(signed: bytes) -> bytes:
    """What is signed for this signed part."""
    return DOMAIN + signed


def _bad(why: str) -> Ruling:
    return Ruling("bad", why, POINTS_OF_A_BAN, poisons=True)


class Signatures:
    """Decodes payments of one chain, and checks each signature once."""

    __slots__ = ("_chain", "_older", "_recent", "_remembered_max", "_verify", "checked")

    def __init__(
        self, chain: bytes, verify: VerifySignature = verify_zip215, remembered_max: int = REMEMBERED_MAX
    ) -> None:
        self._chain = chain
        self._verify = verify
        self._remembered_max = remembered_max
        self._recent: dict[bytes, Payment] = {}
        self._older: dict[bytes, Payment] = {}
        self.checked = 0
        """Signatures that took a computation."""

    def decode(self, raw: bytes) -> Payment | Ruling:
        """Never raises, whatever the bytes."""
        if len(raw) != PAYMENT_BYTES:
            return _bad(f"a payment has {PAYMENT_BYTES} bytes, not {len(raw)}")
        id = sha256d(raw)
        known = self._recent.get(id)
        if known is None and (known := self._older.get(id)) is None:
            return self._decode(id, raw)
        return known

    def _decode(self, id: bytes, raw: bytes) -> Payment | Ruling:
        if raw[0] != VERSION:
            return _bad(f"version {raw[0]} of payments is not known here, {VERSION} is")
        if raw[1:_SENDER] != self._chain:
            return _bad(f"it is for the chain {raw[1:_SENDER].hex()[:16]}..., and this is {self._chain.hex()[:16]}...")
        nonce = int.from_bytes(raw[_NONCE:_TO], "big")
        amount = int.from_bytes(raw[_AMOUNT:_FEE], "big")
        fee = int.from_bytes(raw[_FEE:SIGNED_BYTES], "big")
        if nonce > NONCE_MAX or not 1 <= amount <= SUPPLY_MAX or fee > SUPPLY_MAX:
            return _bad("its nonce, amount or fee is out of range")
        public = raw[_SENDER:_NONCE]
        self.checked += 1
        if not self._verify(public, DOMAIN + raw[:SIGNED_BYTES], raw[SIGNED_BYTES:]):
            return _bad("its signature is wrong")
        payment = Payment(raw, id, address_of_key(public), nonce, raw[_TO:_AMOUNT], amount, fee)
        if len(self._recent) >= self._remembered_max:
            self._older, self._recent = self._recent, {}
        self._recent[id] = payment
        return payment
