"""A configuration that is written is the one that is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.parts.quorum.choice import GridChoice, ListedChoice, SizesChoice, WeightedChoice
from quorate.protocols import REGISTRY
from quorate.protocols.multipaxos import MultiPaxosConfig
from quorate.protocols.pbft import PbftConfig
from quorate.service.config import Member, NodeConfig, load
from quorate.service.config_text import toml_of

NODES = {1: Member("10.0.0.1:7501", "n1.example:7401"), 4: Member("[fd00::4]:1", "[fd00::4]:2", "[::]:1", "0.0.0.0:2")}
OPTIONS: list[tuple[str, Any]] = [
    *((name, None) for name in REGISTRY if not REGISTRY[name].traits.has_keys),
    *((name, REGISTRY[name].config()) for name in REGISTRY),
    ("multipaxos", MultiPaxosConfig(founders=(1, 2, 3), alpha=7, lease_s=0.25, heartbeat_s=0.001)),
    ("multipaxos", MultiPaxosConfig(quorum=SizesChoice(3, 2))),
    ("multipaxos", MultiPaxosConfig(quorum=GridChoice(((1, 2), (3, 4)), columns_first=True))),
    ("multipaxos", MultiPaxosConfig(quorum=WeightedChoice(((1, 2), (4, 1))))),
    ("multipaxos", MultiPaxosConfig(quorum=ListedChoice(((1, 2), (3,)), ((1, 3), (2, 3))))),
    ("pbft", PbftConfig(admins=(b"\xff" * 32, bytes(range(32))), founders=(1, 2, 3, 4), commits="signature")),
]


def written(config: NodeConfig, folder: Path) -> NodeConfig:
    """As it is read again."""
    path = folder / "node.toml"
    keys = Path("keys") if config.keys is not None else None
    path.write_text(toml_of(config, "Made by a test,\nin two lines.", Path(), keys), encoding="utf-8")
    return load(path)


@pytest.mark.parametrize(("protocol", "options"), OPTIONS, ids=repr)
def test_every_option_is_read_as_it_was_written(protocol: str, options: Any, tmp_path: Path) -> None:
    has_keys = REGISTRY[protocol].traits.has_keys
    config = NodeConfig(
        cluster="example",
        node=4,
        data=tmp_path,
        nodes=NODES,
        protocol=protocol,
        options=options,
        keys=tmp_path / "keys" if has_keys else None,
        memory_bytes_max=None if options is None else 300 << 20,
    )
    assert written(config, tmp_path) == config


@given(
    st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(" \"\\'#=[]é😀"), min_size=1, max_size=30)
)
def test_a_name_is_read_as_it_was_written(name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        config = NodeConfig(cluster=name, node=1, data=Path(folder), nodes=NODES, protocol="multipaxos")
        assert written(config, Path(folder)) == config


def test_defaults_are_left_to_the_release(tmp_path: Path) -> None:
    options = MultiPaxosConfig(founders=(1, 2))
    config = NodeConfig(cluster="c", node=1, data=tmp_path, nodes=NODES, protocol="multipaxos", options=options)
    table = toml_of(config, "", Path(), None).partition("[multipaxos]\n")[2]
    assert table == "founders = [1, 2]\n"
    assert msgspec.structs.replace(options, founders=()) == MultiPaxosConfig()
