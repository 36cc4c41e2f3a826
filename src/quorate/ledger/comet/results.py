"""What an app says of the transactions of a block. Of a result, only what all nodes agree on is hashed.

Events stay as bytes until somebody asks for them: most are never read, and decoding them costs more than all the rest.

Source: CometBFT 0.38, ``spec/abci/abci++_methods.md`` (ExecTxResult), ``deterministicExecTxResult`` in
``abci/types/types.go``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from quorate.ledger.comet.params import BLOCK_BYTES_MAX
from quorate.ledger.comet.proto import (
    BOOL,
    INT64,
    UINT32,
    BytesKind,
    Field,
    MessageKind,
    MessageType,
    RawKind,
    TextKind,
)
from quorate.parts.crypto.merkle import merkle_root

TEXT_BYTES_MAX: Final = 1 << 20
"""Of one text of an app: a log, a key. Ours, as are the two that follow; CometBFT takes what fits its frames."""
EVENT_BYTES_MAX: Final = 1 << 24
EVENTS_MAX: Final = 1 << 16


class EventAttribute(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A key, a value, and whether to find blocks by it."""

    key: str = ""
    value: str = ""
    index: bool = False


class AppEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an app tells of a transaction or a block to whoever listens (Event)."""

    type: str = ""
    attributes: tuple[EventAttribute, ...] = ()


class ExecTxResult(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What came of a transaction. Code 0 is success. ``events``: the encoding of an AppEvent each."""

    code: int = 0
    data: bytes = b""
    log: str = ""
    info: str = ""
    gas_wanted: int = 0
    gas_used: int = 0
    events: tuple[bytes, ...] = ()
    codespace: str = ""


TEXT: Final = TextKind(TEXT_BYTES_MAX)
DATA: Final = BytesKind(BLOCK_BYTES_MAX)

EVENT_ATTRIBUTE: Final = MessageType(
    EventAttribute, Field(1, "key", TEXT), Field(2, "value", TEXT), Field(3, "index", BOOL)
)
APP_EVENT: Final = MessageType(
    AppEvent,
    Field(1, "type", TEXT),
    Field(2, "attributes", MessageKind(EVENT_ATTRIBUTE), count_max=EVENTS_MAX),
    bytes_max=EVENT_BYTES_MAX,
)
EVENT: Final = RawKind(APP_EVENT)
EXEC_TX_RESULT: Final = MessageType(
    ExecTxResult,
    Field(1, "code", UINT32),
    Field(2, "data", DATA),
    Field(3, "log", TEXT),
    Field(4, "info", TEXT),
    Field(5, "gas_wanted", INT64),
    Field(6, "gas_used", INT64),
    Field(7, "events", EVENT, count_max=EVENTS_MAX),
    Field(8, "codespace", TEXT),
    bytes_max=BLOCK_BYTES_MAX,
)


def result_leaf(result: ExecTxResult) -> bytes:
    """What is hashed of a result: log, info, events and codespace may differ from node to node."""
    agreed = ExecTxResult(result.code, result.data, gas_wanted=result.gas_wanted, gas_used=result.gas_used)
    return EXEC_TX_RESULT.encode(agreed)


def last_results_hash(results: Sequence[ExecTxResult]) -> bytes:
    """What the next header calls ``last_results_hash``."""
    return merkle_root(list(map(result_leaf, results)))
