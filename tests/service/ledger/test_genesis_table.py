"""[ledger] in a configuration: it makes the same chain at every node, and a wrong one is named."""

import tomllib
from typing import Any

import pytest

from quorate.ledger.accounts import address_text
from quorate.protocols import REGISTRY
from quorate.service.config import ConfigError, from_mapping
from quorate.service.ledger.genesis_table import genesis_lines
from quorate.service.server import protocol_of

from tests.ledger.payers import GENESIS

NODES = {"1": {"peer": "10.0.0.1:7501", "client": "10.0.0.1:7401"}}


def config_with(ledger: Any, **more: Any) -> dict[str, Any]:
    return {"cluster": GENESIS.name, "node": 1, "data": "d", "nodes": NODES, "ledger": ledger, **more}


def table() -> dict[str, Any]:
    read: dict[str, Any] = tomllib.loads("\n".join(genesis_lines(GENESIS)))["ledger"]
    return read


def test_what_is_written_is_read_as_the_same_chain() -> None:
    config = from_mapping(config_with(table()))
    assert config.ledger == GENESIS
    assert protocol_of(config) == f"raft-ledger-{GENESIS.id.hex()[:16]}"
    assert protocol_of(from_mapping(config_with(None))) == "raft"


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("collector", "q12", "no address"),
        ("accounts", {"alice": 1}, "no address"),
        ("accounts", {address_text(bytes(20)): -1}, "ledger.accounts"),
        ("accounts", {address_text(bytes(20)): 0}, "at least 1"),
        ("accounts", {address_text(bytes(20)): 2**62, address_text(bytes(19) + b"a"): 1}, "at most"),
        ("subsidy", 2**62, "subsidy"),
        ("time_s", 2**32, "time_s"),
        ("fee", 1, "fee"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=f"ledger: .*{why}"):
        from_mapping(config_with({**table(), field: value}))


def test_a_node_has_an_app_or_a_ledger() -> None:
    assert "tendermint" in REGISTRY
    with pytest.raises(ConfigError, match="leave out one of the two"):
        from_mapping(config_with(table(), protocol="tendermint", keys="keys", app="kvstore"))
