"""Which other nodes count when a node wants to throw a damaged memory away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.service import presence
from quorate.service.client.errors import Unreachable
from quorate.service.config import NodeConfig, from_mapping
from quorate.service.presence import why_not_forget
from quorate.service.requests import Code, Failure, Status, encode

SERVES = Status(0, 2, "raft", "follower", 1, 3, 70, 70, 4711)
OTHERS: dict[str, Any] = {
    "down": None,
    "has forgotten": msgspec.structs.replace(SERVES, role="learner"),
    "elects": msgspec.structs.replace(SERVES, role="candidate"),
    "loads its state": msgspec.structs.replace(SERVES, applied_index=0),
    "has a full disk": msgspec.structs.replace(SERVES, stalled="disk full"),
    "refuses": Failure(0, Code.UNAVAILABLE, "no"),
}


def config_of(folder: Path, nodes: int) -> NodeConfig:
    places = {
        str(node): {"peer": f"127.0.0.1:{node}", "client": f"127.0.0.1:{100 + node}"} for node in range(1, nodes + 1)
    }
    return from_mapping({"cluster": "c", "node": 1, "data": str(folder), "protocol": "raft", "nodes": places})


def answering(monkeypatch: pytest.MonkeyPatch, *others: Status | Failure | None) -> None:
    """What the nodes from the second on say."""

    async def ask_node(address: str, request: bytes, timeout_s: float, cluster: str = "") -> bytes:
        assert cluster == "c"
        said = others[int(address.rpartition(":")[2]) - 102]
        if said is None:
            raise Unreachable("nothing listens there")
        return encode(said)

    monkeypatch.setattr(presence, "ask_node", ask_node)
    monkeypatch.setattr(presence, "WAIT_S", 0.0)


def test_a_majority_besides_it_must_serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answering(monkeypatch, SERVES, msgspec.structs.replace(SERVES, role="leader"))
    assert why_not_forget(config_of(tmp_path, 3)) == ""
    answering(monkeypatch, SERVES, SERVES, SERVES, None)
    assert why_not_forget(config_of(tmp_path, 5)) == ""


@pytest.mark.parametrize("what", OTHERS)
def test_who_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str) -> None:
    answering(monkeypatch, SERVES, OTHERS[what])
    assert why_not_forget(config_of(tmp_path, 3)).startswith("1 of the other nodes serve, and 2 must")
    answering(monkeypatch, SERVES, SERVES, OTHERS[what], OTHERS[what])
    assert why_not_forget(config_of(tmp_path, 5)).startswith("2 of the other nodes serve, and 3 must")


def test_they_are_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = iter([None, SERVES, SERVES, SERVES])

    async def ask_node(*_: object) -> bytes:
        status = next(said)
        if status is None:
            raise Unreachable("nothing listens there")
        return encode(status)

    monkeypatch.setattr(presence, "ask_node", ask_node)
    monkeypatch.setattr(presence, "AGAIN_S", 0.0)
    assert why_not_forget(config_of(tmp_path, 3)) == ""
