"""What `quorate chain` prints: blocks, payments and proofs as JSON objects, and proofs read back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from quorate.ledger.account_tree import AccountProof
from quorate.ledger.accounts import address_of_key, address_text, parse_account_address
from quorate.ledger.block import PayloadHeader
from quorate.ledger.chain_proofs import HeaderPair, InclusionProof, StateProof
from quorate.ledger.header import LedgerHeader, sha256d
from quorate.ledger.transaction import PAYMENT_BYTES
from quorate.machines.chain.chain_messages import AccountAt, PaymentAt, Whole
from quorate.machines.chain.chain_store import decode_payload

if TYPE_CHECKING:
    from quorate.service.ledger.ledger_client import LedgerClient

PROOF_BYTES_MAX: Final = 1 << 20


def payment_row(raw: bytes) -> dict[str, Any]:
    """The fields of a payment, as the chain has them."""
    if len(raw) != PAYMENT_BYTES:
        return {"id": sha256d(raw).hex(), "raw": raw.hex()}
    return {
        "id": sha256d(raw).hex(),
        "sender": address_text(address_of_key(raw[33:65])),
        "nonce": int.from_bytes(raw[65:73], "big"),
        "to": address_text(raw[73:93]),
        "amount": int.from_bytes(raw[93:101], "big"),
        "fee": int.from_bytes(raw[101:109], "big"),
        "raw": raw.hex(),
    }


def block_row(block: Whole) -> dict[str, Any]:
    """A block with its payments."""
    header, payload = block.block.header, block.block.payload
    return {
        "height": payload.height,
        "id": block.id.hex(),
        "parent": header.parent.hex(),
        "time_s": header.time_s,
        "collector": address_text(payload.proposer),
        "header": header.encode().hex(),
        "payload": payload.encode().hex(),
        "payments": [payment_row(raw) for raw in block.payments],
    }


def proof_object(found: AccountAt | PaymentAt) -> dict[str, Any]:
    """A proof as JSON; bytes are in hex."""
    pair = found.proof.block
    head = {"height": pair.payload.height, "block": found.id.hex()}
    bytes_of = {"header": pair.header.encode().hex(), "payload": pair.payload.encode().hex()}
    if isinstance(found, PaymentAt):
        shown = found.proof
        aunts = [aunt.hex() for aunt in shown.aunts]
        place = {"total": shown.total, "index": shown.index, "aunts": aunts}
        return {"kind": "payment", **head, **bytes_of, "raw": shown.raw.hex(), **place}
    account = found.proof.account
    return {
        "kind": "account",
        **head,
        **bytes_of,
        "address": address_text(account.address),
        "balance": account.account.balance,
        "nonce": account.account.nonce,
        "account": account.encoded.hex(),
        "beside": [beside.hex() for beside in account.beside],
        "other_key": account.other_key.hex(),
        "other": account.other.hex(),
    }


class _Head(msgspec.Struct):
    header: str
    payload: str


class _Payment(_Head, tag_field="kind", tag="payment"):
    raw: str
    total: int
    index: int
    aunts: list[str]


class _Account(_Head, tag_field="kind", tag="account"):
    address: str
    balance: int
    nonce: int
    account: str
    beside: list[str]
    other_key: str = ""
    other: str = ""


def read_proof(path: Path) -> tuple[str, InclusionProof | StateProof]:
    """What ``proof_object`` made. Nothing of it is believed yet. Raises OSError, ValueError."""
    with path.open("rb") as file:
        data = file.read(PROOF_BYTES_MAX + 1)
    if len(data) > PROOF_BYTES_MAX:
        raise ValueError(f"larger than {PROOF_BYTES_MAX} bytes: this is no proof")
    try:
        read: _Payment | _Account = msgspec.json.decode(data, type=_Payment | _Account)
        header = LedgerHeader.decode(bytes.fromhex(read.header))
        payload: PayloadHeader = decode_payload(bytes.fromhex(read.payload))
        pair = HeaderPair(header, payload)
        if isinstance(read, _Payment):
            aunts = tuple(map(bytes.fromhex, read.aunts))
            return "payment", InclusionProof(pair, bytes.fromhex(read.raw), read.total, read.index, aunts)
        address = parse_account_address(read.address)
        beside = tuple(map(bytes.fromhex, read.beside))
        other = (bytes.fromhex(read.other_key), bytes.fromhex(read.other))
        proof = AccountProof(address, bytes.fromhex(read.account), beside, *other)
        if tuple(proof.account) != (read.nonce, read.balance):
            raise ValueError("its balance or nonce is not that of the account that it shows")
        return "account", StateProof(pair, proof)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(f"no proof as `quorate chain proof` prints it: {error}") from None


async def rests_on(client: LedgerClient) -> str:
    """What a block's id rests on that the nodes have told."""
    if client.is_byzantine:
        faults = 0 if client.core.voting is None else client.core.voting.faults
        return f"the word of {faults + 1} nodes, of which one is honest if at most {faults} lie"
    return "the word of one node, as the nodes of this cluster are trusted not to lie"


async def chain_rows(addresses: Sequence[str], timeout_s: float) -> list[dict[str, Any]]:
    """One object for each endpoint, asked alone."""
    import asyncio

    return list(await asyncio.gather(*[_node_row(address, timeout_s) for address in addresses]))


async def _node_row(address: str, timeout_s: float) -> dict[str, Any]:
    from quorate.service.client.errors import QuorateError
    from quorate.service.ledger.ledger_client import LedgerClient
    from quorate.service.requests import Status

    unknown: dict[str, Any] = dict.fromkeys(("name", "height", "head", "final", "peers"))
    try:
        async with LedgerClient([address], timeout_s=timeout_s, faults=0) as client:
            head = await client.head(serializable=True)
            ((_, told),) = await client.statuses()
            if not isinstance(told, Status):
                raise told
    except QuorateError as error:
        return {**unknown, "endpoint": address, "error": str(error)}
    height = head.block.payload.height
    known = {"name": f"n{told.node}", "height": height, "head": head.block.header.id.hex(), "final": height}
    return {**known, "peers": max(0, len(told.nodes) - 1), "endpoint": address, "error": None}
