"""`quorate up --app`: a chain whose nodes drive the built-in app, from its first block to a restart."""

from pathlib import Path

import pytest

from tests.cli.command import Up, quorate
from tests.ports import free_base_port

pytestmark = pytest.mark.slow


def test_a_chain_with_the_built_in_app(tmp_path: Path) -> None:
    data, base = tmp_path / "data", str(free_base_port(4))
    options = ("--protocol", "tendermint", "--nodes", "4", "--app", "kvstore", "--base-port", base, "--no-rpc")
    with Up(*options, "--data", data) as up:
        ready = up.event("ready")
        endpoints = ",".join(ready["endpoints"])
        assert [row["rpc"] for row in ready["nodes"]] == [None] * 4
        rows = quorate("status", "--json", "--endpoints", endpoints).json["nodes"]
        assert [row["term"] > 1 for row in rows] == [True] * 4, "the first block is decided"
        refused = quorate("put", "a", "b", "--endpoints", endpoints)
        assert refused.code == 2
        assert "this cluster runs an ABCI app" in refused.stderr
        assert up.interrupt() == 0
    with Up("--data", data) as up:
        up.event("ready")
        assert up.interrupt() == 0
