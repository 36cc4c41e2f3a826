"""What happens on a chain, as subscribers hear of it: blocks, headers, evidence, transactions, changes of validators.

For each height they come in this order. An event has tags, which queries are over: what the app says of the block or of
the transaction, and ``tm.event``, ``tx.hash`` and ``tx.height``. Its data is only made if somebody wants it.

CometBFT also tells of the rounds of consensus (NewRound, Vote, ...); here nobody does.

Source: CometBFT 0.38, ``types/events.go``, ``types/event_bus.go``, ``fireEvents`` in ``state/execution.go``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from quorate.ledger.comet.abci.contents import ValidatorUpdate
from quorate.ledger.comet.block_ids import BLOCK_ID
from quorate.ledger.comet.blocks import BLOCK, tx_hash
from quorate.ledger.comet.evidence import MISCONDUCT, Misconduct
from quorate.ledger.comet.headers import HEADER, Header
from quorate.ledger.comet.json_shapes import to_json
from quorate.ledger.comet.rpc.answers import (
    base64_text,
    events_answer,
    finalize_block_answer,
    hexadecimal,
    result_answer,
    validator_answer,
)
from quorate.ledger.comet.rpc.shown_events import shown_events
from quorate.ledger.comet.rpc.view import DecidedHeight, IndexedTx
from quorate.ledger.comet.validators import CometValidator

EVENT_TAG: Final = "tm.event"
TX_HASH_TAG: Final = "tx.hash"
TX_HEIGHT_TAG: Final = "tx.height"
BLOCK_HEIGHT_TAG: Final = "block.height"

Tags: TypeAlias = Mapping[str, list[str]]


class ChainEvent(NamedTuple):
    """One event: its kind, the values of its tags, and what makes its data."""

    kind: str
    tags: Tags
    value: Callable[[], dict[str, Any]]

    def data(self) -> dict[str, Any]:
        """As subscribers get it."""
        return {"type": f"tendermint/event/{self.kind}", "value": self.value()}


def decided_txs(decided: DecidedHeight) -> list[IndexedTx]:
    """The transactions of a block with what came of them."""
    height = decided.block.header.height
    pairs = zip(decided.block.data.txs, decided.results.tx_results, strict=True)
    return [IndexedTx(height, i, tx, result) for i, (tx, result) in enumerate(pairs)]


def events_of(decided: DecidedHeight) -> Iterator[ChainEvent]:
    """What there is to tell of a height, in order."""
    block, results = decided.block, decided.results
    of_block = tags_of(results.events)
    yield ChainEvent("NewBlock", _tags("NewBlock", of_block), partial(_new_block, decided))
    yield ChainEvent("NewBlockHeader", _tags("NewBlockHeader", {}), partial(_new_header, block.header))
    yield ChainEvent("NewBlockEvents", _tags("NewBlockEvents", of_block), partial(_new_block_events, decided))
    for piece in block.evidence.evidence:
        yield ChainEvent("NewEvidence", _tags("NewEvidence", {}), partial(_new_evidence, block.header.height, piece))
    for found in decided_txs(decided):
        name = {TX_HASH_TAG: [hexadecimal(tx_hash(found.tx))], TX_HEIGHT_TAG: [str(found.height)]}
        tags = _tags("Tx", _joined(tags_of(found.result.events), name))
        yield ChainEvent("Tx", tags, partial(_tx, found))
    if results.validator_updates:
        changed = partial(_changed_validators, results.validator_updates)
        yield ChainEvent("ValidatorSetUpdates", _tags("ValidatorSetUpdates", {}), changed)


def tags_of(events: Iterable[bytes]) -> Tags:
    """The values of an app's events, by TYPE.KEY. What lacks a type or a key has no tag."""
    tags: dict[str, list[str]] = {}
    for event in shown_events(events):
        for attribute in event.attributes if event.type else ():
            if attribute.key:
                tags.setdefault(f"{event.type}.{attribute.key}", []).append(attribute.value)
    return tags


def _tags(kind: str, others: Tags) -> Tags:
    return _joined(others, {EVENT_TAG: [kind]})


def _joined(some: Tags, more: Tags) -> Tags:
    """An app may use names of ours; its values count too, as in CometBFT."""
    return {**some, **{tag: [*some.get(tag, ()), *values] for tag, values in more.items()}}


def _new_block(decided: DecidedHeight) -> dict[str, Any]:
    return {
        "block": to_json(BLOCK, decided.block),
        "block_id": to_json(BLOCK_ID, decided.block_id),
        "result_finalize_block": finalize_block_answer(decided.results),
    }


def _new_header(header: Header) -> dict[str, Any]:
    return {"header": to_json(HEADER, header)}


def _new_block_events(decided: DecidedHeight) -> dict[str, Any]:
    return {
        "height": str(decided.block.header.height),
        "events": events_answer(decided.results.events) or None,
        "num_txs": str(len(decided.block.data.txs)),
    }


def _new_evidence(height: int, piece: Misconduct) -> dict[str, Any]:
    return {"height": str(height), "evidence": to_json(MISCONDUCT, piece)}


def _tx(found: IndexedTx) -> dict[str, Any]:
    whole = result_answer(found.result)
    result = {name: value for name, value in whole.items() if value not in (0, "0", "", None, [])}
    place = {"index": found.index} if found.index else {}
    return {"TxResult": {"height": str(found.height), **place, "tx": base64_text(found.tx), "result": result}}


def _changed_validators(updates: Iterable[ValidatorUpdate]) -> dict[str, Any]:
    """Their powers; what they may claim as proposers is not known yet."""
    changed = [CometValidator(update.pub_key.address, update.pub_key, update.power) for update in updates]
    return {"validator_updates": [validator_answer(validator) for validator in changed]}
