"""KVStoreApp: CometBFT's kvstore in Python, answer for answer.

How it works. A transaction is ``key=value`` (or ``key:value``, which a proposer rewrites), or
``val=KEYTYPE!PUBKEY!POWER``, with the key in base64, which changes a validator's power; 0 removes it. FinalizeBlock
works out what a block changes and Commit puts it into the state. The hash of the state is the number of transactions so
far: it tells apps apart that ran different blocks, and not those that hold different values. Query finds a key's value,
and with the path ``/val`` a validator's update by its public key.

All is in memory: after a restart the engine runs the chain's blocks again.

Departures from CometBFT 0.38.26, all where its kvstore panics or its answer stops a CometBFT node:

- A validator transaction whose key is not 32 bytes of Ed25519, that removes a validator who is not there, the last one,
  or makes more power than a set may have, gets code 2 and changes nothing. Of two updates of one key the last counts.
- Commit takes ``key:value``, which ProcessProposal accepts too. A transaction that is neither raises KVStoreError.
- Evidence against somebody who is not a validator any more changes nothing.
- Info and Query tell of the last block that was committed. There, of one that FinalizeBlock ran: an engine that crashes
  before Commit finds the app ahead, and its keys are lost.
- A proposal that would be larger than ``max_tx_bytes`` is cut.

Source: CometBFT 0.38, ``abci/example/kvstore/kvstore.go``.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from quorate.ledger.comet.abci.answer_checks import tx_bytes_in_block
from quorate.ledger.comet.abci.contents import VALIDATOR_UPDATE, Misbehavior, MisbehaviorType, ValidatorUpdate
from quorate.ledger.comet.abci.request_messages import (
    RequestCheckTx,
    RequestCommit,
    RequestFinalizeBlock,
    RequestInfo,
    RequestInitChain,
    RequestPrepareProposal,
    RequestProcessProposal,
    RequestQuery,
)
from quorate.ledger.comet.abci.response_messages import (
    ProposalStatus,
    ResponseCheckTx,
    ResponseCommit,
    ResponseFinalizeBlock,
    ResponseInfo,
    ResponseInitChain,
    ResponsePrepareProposal,
    ResponseProcessProposal,
    ResponseQuery,
)
from quorate.ledger.comet.proto import (
    BOOL,
    BytesKind,
    Field,
    MessageKind,
    MessageType,
)
from quorate.ledger.comet.results import EVENT_BYTES_MAX, ExecTxResult
from quorate.ledger.comet.validators import PUBLIC_KEY_BYTES, TOTAL_POWER_MAX, ValidatorKey, key_address
from quorate.ledger.comet.wire_reader import LENGTH, VARINT, delimited, uvarint
from quorate.machines.abci.application import ABCIApp

ABCI_VERSION: Final = "2.0.0"
APP_VERSION: Final = 1
INVALID_FORMAT: Final = 2
"""CodeTypeInvalidTxFormat"""
VALIDATOR_PREFIX: Final = b"val="
ED25519_NAMES: Final = (b"", b"ed25519")
APP_HASH_BYTES: Final = 8
INT64_MAX: Final = (1 << 63) - 1
POWER_BYTES_MAX: Final = 4096
"""Of a power, leading zeros and all: Python's int refuses more digits, too."""
_POWER: Final = re.compile(rb"[+-]?[0-9]+")


class KVStoreError(Exception):
    """A block was decided that no ProcessProposal of this app accepts."""


class KVAttribute(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An attribute of an event, whose texts are any bytes, as keys of transactions are."""

    key: bytes
    value: bytes
    index: bool


class KVEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The event itself."""

    type: bytes
    attributes: tuple[KVAttribute, ...]


class ValidatorChange(NamedTuple):
    """What a validator transaction asks for."""

    key_type: bytes
    key: bytes
    power: int


_BYTES: Final = BytesKind(EVENT_BYTES_MAX)
_ATTRIBUTE: Final = MessageType(
    KVAttribute, Field(1, "key", _BYTES), Field(2, "value", _BYTES), Field(3, "index", BOOL)
)
_EVENT: Final = MessageType(
    KVEvent, Field(1, "type", _BYTES), Field(2, "attributes", MessageKind(_ATTRIBUTE), count_max=16)
)
_CREATORS: Final = (b"Cosmoshi Netowoko", b"Cosmoshi")
_HEADS: Final = {
    creator: _EVENT.encode(KVEvent(b"app", (KVAttribute(b"creator", creator, True),))) for creator in _CREATORS
}
_TAIL: Final = _EVENT.encode(
    KVEvent(
        b"",
        (
            KVAttribute(b"index_key", b"index is working", True),
            KVAttribute(b"noindex_key", b"index is working", False),
        ),
    )
)
_ATTRIBUTES: Final = uvarint(2 << 3 | LENGTH)
_KEY: Final = uvarint(1 << 3 | LENGTH) + delimited(b"key")
_VALUE: Final = uvarint(2 << 3 | LENGTH)
_INDEXED: Final = uvarint(3 << 3 | VARINT) + uvarint(1)


class Staged(msgspec.Struct):
    """What a block that is not committed changes."""

    height: int
    size: int
    pairs: dict[bytes, bytes]
    updates: dict[bytes, int]
    """Power by Ed25519 key, in the order of the updates."""


class KVStoreApp(ABCIApp):
    """The app. ``retain_blocks``: how many blocks Commit asks to keep; 0: all."""

    def __init__(self, retain_blocks: int = 0) -> None:
        self.retain_blocks = retain_blocks
        self.height = 0
        self.size = 0
        """Transactions so far."""
        self.pairs: dict[bytes, bytes] = {}
        self.powers: dict[bytes, int] = {}
        """Of the validators, by their keys, after the last block that is committed."""
        self._staged: Staged | None = None

    def info(self, request: RequestInfo) -> ResponseInfo:
        return ResponseInfo(f'{{"size":{self.size}}}', ABCI_VERSION, APP_VERSION, self.height, kv_app_hash(self.size))

    def init_chain(self, request: RequestInitChain) -> ResponseInitChain:
        self.height = self.size = 0
        self.pairs.clear()
        self._staged = None
        self.powers = {update.pub_key.ed25519: update.power for update in request.validators if update.power}
        return ResponseInitChain(app_hash=kv_app_hash(0))

    def check_tx(self, request: RequestCheckTx) -> ResponseCheckTx:
        if _is_valid(request.tx):
            return ResponseCheckTx(gas_wanted=1)
        return ResponseCheckTx(INVALID_FORMAT)

    def prepare_proposal(self, request: RequestPrepareProposal) -> ResponsePrepareProposal:
        chosen = tuple(tx.replace(b":", b"=", 1) for tx in request.txs if _is_valid(tx))
        room = request.max_tx_bytes
        for i, tx in enumerate(chosen):
            room -= tx_bytes_in_block(tx)
            if room < 0:
                return ResponsePrepareProposal(chosen[:i])
        return ResponsePrepareProposal(chosen)

    def process_proposal(self, request: RequestProcessProposal) -> ResponseProcessProposal:
        is_good = all(map(_is_valid, request.txs))
        return ResponseProcessProposal(ProposalStatus.ACCEPT if is_good else ProposalStatus.REJECT)

    def finalize_block(self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock:
        staged = Staged(request.height, self.size + len(request.txs), {}, {})
        for piece in request.misbehavior:
            self._punish(piece, staged.updates)
        results = tuple(self._run(tx, staged) for tx in request.txs)
        self._staged = staged
        updates = tuple(ValidatorUpdate(ValidatorKey(key), power) for key, power in staged.updates.items())
        return ResponseFinalizeBlock(tx_results=results, validator_updates=updates, app_hash=kv_app_hash(staged.size))

    def commit(self, request: RequestCommit) -> ResponseCommit:
        staged, self._staged = self._staged, None
        if staged is not None:
            self.pairs.update(staged.pairs)
            self.powers = _changed(self.powers, staged.updates)
            self.height, self.size = staged.height, staged.size
        if 0 < self.retain_blocks <= self.height:
            return ResponseCommit(self.height - self.retain_blocks + 1)
        return ResponseCommit()

    def query(self, request: RequestQuery) -> ResponseQuery:
        key = request.data
        if request.path == "/val":
            power = self.powers.get(key)
            found = (
                b"" if power is None else delimited(VALIDATOR_UPDATE.encode(ValidatorUpdate(ValidatorKey(key), power)))
            )
            return ResponseQuery(key=key, value=found)
        value = self.pairs.get(key)
        log = "does not exist" if value is None else "exists"
        index = -1 if request.prove else 0
        return ResponseQuery(log=log, index=index, key=key, value=value or b"", height=self.height)

    def _run(self, tx: bytes, staged: Staged) -> ExecTxResult:
        if not _is_valid(tx):
            raise KVStoreError(f"transaction {tx[:100]!r} is neither key=value nor val=KEYTYPE!PUBKEY!POWER")
        change = _change(tx)
        if change is None:
            key, _, value = tx.replace(b":", b"=", 1).partition(b"=")
            staged.pairs[key] = value
        elif change.key_type not in ED25519_NAMES or len(change.key) != PUBLIC_KEY_BYTES:
            return ExecTxResult(INVALID_FORMAT, log=f"not a key of {PUBLIC_KEY_BYTES} bytes of Ed25519")
        elif not self._set_power(staged.updates, change.key, change.power):
            return ExecTxResult(INVALID_FORMAT, log="no such validator, the last one, or too much power")
        return ExecTxResult(events=_events(tx))

    def _set_power(self, updates: dict[bytes, int], key: bytes, power: int) -> bool:
        """Put it into the updates; False, and nothing done, if the engine could not act on them then."""
        before = _changed(self.powers, updates)
        after = _changed(before, {key: power})
        if (power == 0 and key not in before) or not after or sum(after.values()) > TOTAL_POWER_MAX:
            return False
        if power == 0 and key not in self.powers:
            del updates[key]  # it came and went in this block
        else:
            updates[key] = power
        return True

    def _punish(self, piece: Misbehavior, updates: dict[bytes, int]) -> None:
        """A validator who voted twice loses one of its power."""
        liar = piece.validator
        if piece.type is MisbehaviorType.DUPLICATE_VOTE:
            for key in [key for key in self.powers if key_address(key) == liar.address]:
                self._set_power(updates, key, max(liar.power - 1, 0))


def _is_valid(tx: bytes) -> bool:
    """What CheckTx accepts."""
    if tx.startswith(VALIDATOR_PREFIX):
        return _change(tx) is not None
    if tx.count(b"=") + tx.count(b":") != 1:
        return False
    return tx[0] not in b"=:" and tx[-1] not in b"=:"


def _change(tx: bytes) -> ValidatorChange | None:
    """What a validator transaction says; None for another one, or one that says nothing that can be read."""
    parts = tx.removeprefix(VALIDATOR_PREFIX).split(b"!")
    if not tx.startswith(VALIDATOR_PREFIX) or len(parts) != 3:
        return None
    key_type, encoded, power = parts
    try:
        # Go's decoder leaves line breaks out, and nothing else.
        key = binascii.a2b_base64(encoded.translate(None, b"\r\n"), strict_mode=True)
    except binascii.Error:
        return None
    if not _POWER.fullmatch(power) or len(power) > POWER_BYTES_MAX or not 0 <= int(power) <= INT64_MAX:
        return None
    return ValidatorChange(key_type, key, int(power))


def _changed(powers: Mapping[bytes, int], updates: Mapping[bytes, int]) -> dict[bytes, int]:
    """The powers after the updates. 0 removes."""
    return {key: power for key, power in {**powers, **updates}.items() if power}


def _events(tx: bytes) -> tuple[bytes, ...]:
    """What a transaction tells of itself: the kvstore has no more to say, and says it twice."""
    parts = tx.split(b"=")
    key, value = parts if len(parts) == 2 else (tx, tx)
    return tuple([_event(creator, text) for creator, text in zip(_CREATORS, (key, value), strict=True)])


def _event(creator: bytes, key: bytes) -> bytes:
    """But for one attribute it is the same for all: a message is its fields, one after the other."""
    value = _VALUE + delimited(key) if key else b""  # what is empty is left out
    return _HEADS[creator] + _ATTRIBUTES + delimited(_KEY + value + _INDEXED) + _TAIL


def kv_app_hash(size: int) -> bytes:
    """A signed varint (zigzag) in 8 bytes, as Go's binary.PutVarint writes it."""
    return uvarint(size << 1).ljust(APP_HASH_BYTES, b"\0")
