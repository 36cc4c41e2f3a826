"""The structures in JSON, as CometBFT's RPC shows them; made and read by the same tables as the encoding in bytes.

Numbers of 64 bits are text, as JavaScript has no room for them. Hashes and addresses are hexadecimal in capitals, other
bytes base64, and null if there are none. Times are RFC 3339. What can be of several kinds names its kind:
``{"type": ..., "value": ...}``. An empty list is ``[]``; where CometBFT says null, that is read as well.

What is read is hostile, as bytes are. Raises ValueError, which names the field.

Source: the answers of CometBFT 0.38.26, and its ``libs/json``.
"""

from __future__ import annotations

import re
import reprlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from quorate.ledger.comet.block_ids import BlockID
from quorate.ledger.comet.evidence import MISCONDUCT, DuplicateVoteEvidence, LightClientAttackEvidence
from quorate.ledger.comet.headers import ConsensusVersion
from quorate.ledger.comet.params import Duration
from quorate.ledger.comet.proto import (
    BoolKind,
    BytesKind,
    EnumKind,
    Field,
    FieldKind,
    FixedKind,
    IntKind,
    MessageKind,
    MessageType,
    RawKind,
    TextKind,
    WireForm,
)
from quorate.ledger.comet.times import Timestamp
from quorate.ledger.comet.validators import ValidatorKey

T = TypeVar("T")

_EVIDENCE_NAMES: Final = {
    "conflicting_block": "ConflictingBlock",
    "common_height": "CommonHeight",
    "byzantine_validators": "ByzantineValidators",
    "total_voting_power": "TotalVotingPower",
    "validator_power": "ValidatorPower",
    "timestamp": "Timestamp",
}
NAMES: Final[Mapping[type, Mapping[str, str]]] = {
    BlockID: {"part_set_header": "parts"},
    DuplicateVoteEvidence: _EVIDENCE_NAMES,
    LightClientAttackEvidence: _EVIDENCE_NAMES,
}
"""Fields that have another name in JSON."""
OMITTED: Final[Mapping[type, str]] = {ConsensusVersion: "app"}
"""A field that is left out if it is zero."""
KINDS: Final[Mapping[type, str]] = {
    DuplicateVoteEvidence: "tendermint/DuplicateVoteEvidence",
    LightClientAttackEvidence: "tendermint/LightClientAttackEvidence",
}
KEY_KIND: Final = "tendermint/PubKeyEd25519"

_DECIMAL: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,19})", re.ASCII)
_NUMBERS_OF_32_BITS: Final = (1 << 32) - 1


def to_json(form: WireForm[T], value: T) -> Any:
    """What ``json.dumps`` takes."""
    if isinstance(value, Timestamp):
        return value.text()
    if isinstance(value, Duration):
        return str(value.ns())
    if isinstance(value, ValidatorKey):
        return {"type": KEY_KIND, "value": _base64(value.ed25519)}
    if form is MISCONDUCT:
        inner = next(option for option in MISCONDUCT.options.values() if option.of is type(value))
        return {"type": KINDS[type(value)], "value": to_json(inner, value)}
    assert isinstance(form, MessageType)
    made = {}
    for field in form.fields:
        found = getattr(value, field.name)
        if not (field.name == OMITTED.get(form.of) and not found):
            made[_name(form, field)] = _field_to_json(field, found)
    return made


def of_json(form: WireForm[T], data: Any) -> T:
    """The value that ``data``, as ``json.loads`` gives it, stands for. Fields that are unknown do not count.

    Raises ValueError for all that is not one, within the limits of the form.
    """
    special = _SPECIAL.get(form.of) if isinstance(form, MessageType) else None
    if special is not None:
        made: T = special(data)
        return made
    if not isinstance(data, dict):
        raise ValueError(f"{_shown(data)} is not an object")
    if form is MISCONDUCT:
        for option in MISCONDUCT.options.values():
            if data.get("type") == KINDS[option.of]:
                piece: T = of_json(option, data.get("value"))
                return piece
        raise ValueError(f"evidence of type {_shown(data.get('type'))}")
    assert isinstance(form, MessageType)
    values: dict[str, Any] = {}
    for field in form.fields:
        found = data.get(_name(form, field))
        if found is not None:
            try:
                values[field.name] = _field_of_json(field, found)
            except ValueError as error:
                raise ValueError(f"{form.of.__name__}.{field.name}: {error}") from None
    value: T = form.made(values)
    return value


def _name(form: MessageType[Any], field: Field) -> str:
    return NAMES.get(form.of, {}).get(field.name, field.name)


def _field_to_json(field: Field, value: Any) -> Any:
    if field.count_max:
        return [_kind_to_json(field.kind, item) for item in value]
    return _kind_to_json(field.kind, value)


def _kind_to_json(kind: FieldKind, value: Any) -> Any:
    match kind:
        case MessageKind():
            return None if value is None else to_json(kind.of, value)
        case RawKind():
            return to_json(kind.of, kind.of.decode(value))
        case BytesKind():
            return value.hex().upper() if kind.is_hex else _base64(value) if value else None
        case BoolKind() | TextKind():
            return value
        case EnumKind():
            return int(value)
        case IntKind(most=most) if most <= _NUMBERS_OF_32_BITS:
            return value
    return str(value)


def _field_of_json(field: Field, data: Any) -> Any:
    if not field.count_max:
        return _kind_of_json(field.kind, data)
    if not isinstance(data, list):
        raise ValueError(f"{_shown(data)} is not a list")
    if len(data) > field.count_max:
        raise ValueError(f"more than {field.count_max} of them")
    return tuple(_kind_of_json(field.kind, item) for item in data)


def _kind_of_json(kind: FieldKind, data: Any) -> Any:
    match kind:
        case MessageKind():
            return of_json(kind.of, data)
        case RawKind():
            return kind.of.encode(of_json(kind.of, data))
        case BytesKind():
            return _bytes(data, kind)
        case TextKind():
            if len(_text(data).encode()) > kind.bytes.bytes_max:
                raise ValueError(f"more than {kind.bytes.bytes_max} bytes")
            return data
        case BoolKind():
            if not isinstance(data, bool):
                raise ValueError(f"{_shown(data)} is neither true nor false")
            return data
        case EnumKind():
            return kind.names(_number(data))
        case IntKind():
            number = _number(data) if kind.most <= _NUMBERS_OF_32_BITS else _decimal(data)
            if not kind.least <= number <= kind.most:
                raise ValueError(f"{number} is not from {kind.least} to {kind.most}")
            return number
        case FixedKind():
            return _decimal(data)
    raise AssertionError(kind)


_shown: Final = reprlib.repr
"""Short, however long the data is."""


def _text(data: Any) -> str:
    if not isinstance(data, str):
        raise ValueError(f"{_shown(data)} is not text")
    return data


def _number(data: Any) -> int:
    if not isinstance(data, int) or isinstance(data, bool):
        raise ValueError(f"{_shown(data)} is not a number")
    return data


def _decimal(data: Any) -> int:
    if _DECIMAL.fullmatch(_text(data)) is None:
        raise ValueError(f"{_shown(data)} is not a number in text")
    return int(data)


def _bytes(data: Any, kind: BytesKind) -> bytes:
    text = _text(data)
    if len(text) > 2 * kind.bytes_max + 4:
        raise ValueError(f"more than {kind.bytes_max} bytes")
    found = bytes.fromhex(text) if kind.is_hex else b64decode(text, validate=True)  # binascii.Error is a ValueError
    if kind.is_hex and 2 * len(found) != len(text):
        raise ValueError("there are blanks in it")
    if len(found) > kind.bytes_max:
        raise ValueError(f"{len(found)} bytes, at most {kind.bytes_max}")
    return found


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


def _key(data: Any) -> ValidatorKey:
    if not isinstance(data, dict) or data.get("type") != KEY_KIND:
        raise ValueError(f"{_shown(data)} is not an Ed25519 key")
    key = ValidatorKey(_bytes(data.get("value"), BytesKind(32)))
    key.check()
    return key


def _time(data: Any) -> Timestamp:
    return Timestamp.of_text(_text(data))


def _duration(data: Any) -> Duration:
    duration = Duration.of_ns(_decimal(data))
    duration.check()
    return duration


_SPECIAL: Final[Mapping[type, Callable[[Any], Any]]] = {Timestamp: _time, Duration: _duration, ValidatorKey: _key}
