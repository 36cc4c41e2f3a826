"""What an app may change of a chain's parameters, and what fits into a block under them."""

from typing import Any

import pytest
from msgspec.structs import replace

from quorate.ledger.comet.param_updates import ChainParams, data_bytes_max, updated_params
from quorate.ledger.comet.params import (
    ABCIParams,
    BlockParams,
    ConsensusParams,
    Duration,
    EvidenceParams,
    ValidatorParams,
    VersionParams,
)

EVIDENCE = EvidenceParams(10, Duration(60), 500)
PARAMS = ChainParams(BlockParams(1000, -1), EVIDENCE)


def test_what_an_update_leaves_out_stays() -> None:
    assert updated_params(PARAMS, None) == updated_params(PARAMS, ConsensusParams()) == PARAMS
    found = updated_params(PARAMS, ConsensusParams(block=BlockParams(-1, 9), version=VersionParams(4)))
    assert found == ChainParams(BlockParams(-1, 9), EVIDENCE, version=VersionParams(4))
    assert found.whole().validator == ValidatorParams(("ed25519",))


@pytest.mark.parametrize(
    ("update", "why"),
    [
        ({"block": BlockParams(0, -1)}, "block.max_bytes is 0"),
        ({"block": BlockParams(-2, -1)}, "block.max_bytes is -2"),
        ({"block": BlockParams(104_857_601, -1)}, "block.max_bytes is 104857601"),
        ({"block": BlockParams(1000, -2)}, "block.max_gas is -2"),
        ({"block": BlockParams(499, -1)}, "evidence.max_bytes is 500"),
        ({"evidence": EvidenceParams(0, Duration(60), 500)}, "evidence.max_age_num_blocks is 0"),
        ({"evidence": EvidenceParams(1, Duration(0), 500)}, "evidence.max_age_duration is 0 ns"),
        ({"evidence": EvidenceParams(1, Duration(1), -1)}, "evidence.max_bytes is -1"),
        ({"validator": ValidatorParams(("ed25519", "dsa"))}, "'dsa', which is not known"),
        ({"validator": ValidatorParams(())}, "lacks 'ed25519'"),
        ({"validator": ValidatorParams(("secp256k1",))}, "lacks 'ed25519'"),
        ({"abci": ABCIParams(-1)}, "vote_extensions_enable_height is -1"),
    ],
)
def test_what_no_chain_may_have(update: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        updated_params(PARAMS, ConsensusParams(**update))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (0, 0, ""),
        (5, 5, ""),
        (0, 6, ""),
        (0, 5, "vote extensions can only begin later: write 6 or more"),
        (0, 4, "can only begin later"),
        (6, 9, ""),
        (9, 6, ""),
        (6, 0, ""),
        (9, 5, "can only begin later"),
        (5, 0, "on since height 5, and stay on"),
        (5, 9, "on since height 5, and stay on"),
        (4, 0, "on since height 4, and stay on"),
        (0, -1, "vote_extensions_enable_height is -1: it is at least 1, or 0 for never"),
    ],
)
def test_when_vote_extensions_may_begin(old: int, new: int, why: str) -> None:
    """At height 5. The cases of ValidateUpdate of CometBFT 0.38.26."""
    params, update = replace(PARAMS, abci=ABCIParams(old)), ConsensusParams(abci=ABCIParams(new))
    if why:
        with pytest.raises(ValueError, match=why):
            updated_params(params, update, 5)
    else:
        assert updated_params(params, update, 5).abci == ABCIParams(new)


def test_vote_extensions_of_a_genesis_begin_anywhere() -> None:
    assert updated_params(PARAMS, ConsensusParams(abci=ABCIParams(1))).abci == ABCIParams(1)


def test_room_for_transactions() -> None:
    """As MaxDataBytes of CometBFT, with signatures of Ed25519. In a block of 1,000 bytes nothing is left."""
    assert data_bytes_max(BlockParams(1000, -1), 2, 50) == 0
    assert data_bytes_max(BlockParams(10_000, -1), 2, 50) == 10_000 - 11 - 626 - (94 + 2 * 113) - 50
    assert data_bytes_max(BlockParams(-1, -1), 0, 0, 5000) == 5000 - 11 - 626 - 94
    assert data_bytes_max(BlockParams(9000, -1), 0, 0, 5000) == 5000 - 11 - 626 - 94
