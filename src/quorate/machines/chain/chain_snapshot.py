"""Snapshots of a ledger: the accounts after a block, the block, and the last blocks before it.

    MAGIC | chain 32 | height 8 | id 32 | accounts 8, each address 20, account 16, in the order of the tree
    | blocks 4, the lowest first, each: header 80, payload header 140, payments 4, 173 bytes each | MAGIC

Nodes that have the same chain write the same bytes. The accounts are checked against the root in the last block, and
the blocks against each other, so nothing but the id of the last block rests on the sender. Block 0 has no
accounts here: the genesis has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO, Final, NamedTuple

from quorate.ledger.account_tree import AccountTree
from quorate.ledger.accounts import ACCOUNT_BYTES, Account
from quorate.ledger.block import ADDRESS_BYTES, LedgerBlock
from quorate.ledger.genesis import Genesis
from quorate.ledger.header import HASH_BYTES, HEADER_BYTES, LedgerHeader
from quorate.ledger.transaction import PAYMENT_BYTES
from quorate.machines.chain.chain_messages import BATCH_PAYMENTS_MAX
from quorate.machines.chain.chain_store import PAYLOAD_BYTES, decode_payload
from quorate.machines.streams import read_exactly
from quorate.parts.crypto.merkle import merkle_root

MAGIC: Final = b"QUORLEDG\x01"
BLOCKS: Final = 256
"""The last ones that a snapshot has, so that a newcomer can answer for them."""
ACCOUNTS_AT_ONCE: Final = 10_000


class LoadedChain(NamedTuple):
    """What a snapshot holds: the state after the last block, of which there is none at height 0."""

    state: AccountTree
    blocks: tuple[LedgerBlock, ...]


def write_chain(file: BinaryIO, chain: bytes, state: AccountTree, blocks: Sequence[LedgerBlock]) -> None:
    """From any thread: a tree never changes."""
    height, id = (blocks[-1].payload.height, blocks[-1].id) if blocks else (0, chain)
    accounts = list(state) if height else []
    file.write(MAGIC + chain + height.to_bytes(8, "big") + id + len(accounts).to_bytes(8, "big"))
    for at in range(0, len(accounts), ACCOUNTS_AT_ONCE):
        some = accounts[at : at + ACCOUNTS_AT_ONCE]
        file.write(b"".join([address + account.encode() for address, account in some]))
    file.write(len(blocks).to_bytes(4, "big"))
    for block in blocks:
        count = len(block.transactions).to_bytes(4, "big")
        file.write(b"".join((block.header.encode(), block.payload.encode(), count, *block.transactions)))
    file.write(MAGIC)


def read_chain(file: BinaryIO, genesis: Genesis) -> LoadedChain:
    """Raises ValueError for what is cut short, corrupt, or of another chain."""
    if read_exactly(file, len(MAGIC)) != MAGIC:
        raise ValueError("not the snapshot of a ledger, or one of another version")
    if (chain := read_exactly(file, HASH_BYTES)) != genesis.id:
        raise ValueError(f"the snapshot is of the chain {chain.hex()}, this node's is {genesis.id.hex()}")
    height = _number(file, 8)
    id = read_exactly(file, HASH_BYTES)
    state = _read_accounts(file)
    blocks = _read_blocks(file, height)
    if read_exactly(file, len(MAGIC)) != MAGIC:
        raise ValueError("the snapshot does not end where it should")
    if not height:
        return LoadedChain(genesis.state, ())
    if not blocks or blocks[-1].id != id:
        raise ValueError("the snapshot's last block is not the one that it names")
    if state.root != blocks[-1].payload.state:
        raise ValueError(f"the accounts in the snapshot are not those after block {height}")
    return LoadedChain(state, blocks)


def _read_accounts(file: BinaryIO) -> AccountTree:
    left = _number(file, 8)
    accounts: dict[bytes, Account] = {}
    while left:
        count = min(left, ACCOUNTS_AT_ONCE)
        width = ADDRESS_BYTES + ACCOUNT_BYTES
        data = read_exactly(file, count * width)
        for at in range(0, len(data), width):
            accounts[data[at : at + ADDRESS_BYTES]] = Account.decode(data[at + ADDRESS_BYTES : at + width])
        left -= count
    return AccountTree.of(accounts)


def _read_blocks(file: BinaryIO, height: int) -> tuple[LedgerBlock, ...]:
    count = _number(file, 4)
    if count != min(height, count, BLOCKS) or (height and not count):
        raise ValueError(f"the snapshot has {count} blocks up to height {height}")
    blocks: list[LedgerBlock] = []
    for expected in range(height - count + 1, height + 1):
        header = LedgerHeader.decode(read_exactly(file, HEADER_BYTES))
        payload = decode_payload(read_exactly(file, PAYLOAD_BYTES))
        payments = _number(file, 4)
        if payments > BATCH_PAYMENTS_MAX:
            raise ValueError(f"block {expected} in the snapshot has {payments} payments, at most {BATCH_PAYMENTS_MAX}")
        body = read_exactly(file, payments * PAYMENT_BYTES)
        raws = tuple([body[at : at + PAYMENT_BYTES] for at in range(0, len(body), PAYMENT_BYTES)])
        is_right = payload.hash == header.payload and payload.height == expected
        if not is_right or merkle_root(raws) != payload.transactions:
            raise ValueError(f"block {expected} in the snapshot does not fit its header")
        if blocks and header.parent != blocks[-1].id:
            raise ValueError(f"block {expected} in the snapshot does not follow on the one before")
        blocks.append(LedgerBlock(header, payload, raws))
    return tuple(blocks)


def _number(file: BinaryIO, size: int) -> int:
    return int.from_bytes(read_exactly(file, size), "big")
