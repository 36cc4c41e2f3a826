"""The recorded chain, as our structures: what CometBFT 0.38.26 said of it, height by height."""

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from quorate.ledger.comet.block_ids import BLOCK_ID, BlockID
from quorate.ledger.comet.blocks import BLOCK, Block
from quorate.ledger.comet.commits import COMMIT, Commit
from quorate.ledger.comet.json_shapes import of_json
from quorate.ledger.comet.light_blocks import LightBlock, SignedHeader
from quorate.ledger.comet.params import CONSENSUS_PARAMS, ConsensusParams
from quorate.ledger.comet.results import EXEC_TX_RESULT, ExecTxResult
from quorate.ledger.comet.validators import VALIDATOR, CometValidator, CometValidatorSet

RECORDED = Path(__file__).with_name("recorded") / "chain.jsonl"
HEIGHTS = 42


class Height(NamedTuple):
    """One height: the block, who could vote for it, and what the app said of it."""

    block_id: BlockID
    block: Block
    validators: tuple[CometValidator, ...]
    results: tuple[ExecTxResult, ...]
    raw: dict[str, Any]

    @property
    def by_address(self) -> dict[bytes, CometValidator]:
        return {validator.address: validator for validator in self.validators}

    @property
    def validator_set(self) -> CometValidatorSet:
        return CometValidatorSet(self.validators, self.validators[0])


@cache
def lines() -> list[Any]:
    return [json.loads(line) for line in RECORDED.read_text().splitlines()]


def genesis() -> dict[str, Any]:
    found: dict[str, Any] = lines()[0]["genesis"]
    return found


def chain_id() -> str:
    return str(genesis()["chain_id"])


def params() -> ConsensusParams:
    return of_json(CONSENSUS_PARAMS, genesis()["consensus_params"])


@cache
def height(at: int) -> Height:
    line = lines()[at]
    return Height(
        of_json(BLOCK_ID, line["block"]["block_id"]),
        of_json(BLOCK, line["block"]["block"]),
        tuple(of_json(VALIDATOR, item) for item in line["validators"]["validators"]),
        tuple(of_json(EXEC_TX_RESULT, item) for item in line["block_results"]["txs_results"] or []),
        line,
    )


def heights() -> list[Height]:
    return [height(at) for at in range(1, HEIGHTS + 1)]


def commit(at: int) -> Commit:
    """The commit of this height: in the next block, or recorded by itself."""
    if at == HEIGHTS:
        return of_json(COMMIT, lines()[-1]["signed_header"]["commit"])
    found = height(at + 1).block.last_commit
    assert found is not None
    return found


def light_block(at: int) -> LightBlock:
    return LightBlock(SignedHeader(height(at).block.header, commit(at)), height(at).validator_set)
