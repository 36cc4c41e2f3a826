"""A backup of replicated objects is the stream of their state: another cluster of the same classes begins with it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from quorate.objects import Counter, ReplicatedDict
from quorate.service.backup.archive import BackupHead
from quorate.service.backup.fetching import FetchedBackup, fetch_backup
from quorate.service.backup.restoring import CannotRestore, check_backup, restore_node
from quorate.service.client.aio import Connection
from quorate.service.objects import replicate_many
from quorate.service.objects.settings import node_config

from tests.ports import free_pairs


def fetch(endpoint: str, path: Path) -> FetchedBackup:
    """From the node there."""
    seen: list[int] = []

    def on_progress(head: BackupHead, size_bytes: int) -> None:
        seen.append(size_bytes)

    async def run() -> FetchedBackup:
        async with Connection(endpoint, timeout_s=20) as client:
            return await fetch_backup(client, path, on_progress)

    fetched = asyncio.run(run())
    assert seen[-1] == fetched.end.size_bytes
    return fetched


def test_objects_begin_again_with_what_they_held(tmp_path: Path) -> None:
    file, data = tmp_path / "b", tmp_path / "new"
    with replicate_many({"hits": Counter, "users": ReplicatedDict}, cluster="old") as node:
        node.handle("hits", Counter).add(7)
        node.handle("users", ReplicatedDict).update(dict.fromkeys(range(600), "x" * 1000))
        fetched = fetch(node.endpoint, file)
    assert (fetched.head.kind, fetched.head.revision, fetched.head.cluster) == ("objects", 0, "old")
    assert check_backup(file) == (fetched.head, fetched.end)
    nodes = {1: f"127.0.0.1:{free_pairs(1)[0]}"}
    config = node_config(
        node=1, nodes=nodes, data=data, cluster="new", protocol="raft", protocol_options=None, keys=None, listen=None
    )
    with pytest.raises(CannotRestore, match="only a key-value store has revisions"):
        restore_node(file, config, revision=3)
    restore_node(file, config)
    with replicate_many({"hits": Counter, "users": ReplicatedDict}, cluster="new", data=data, nodes=nodes) as node:
        assert node.handle("hits", Counter).get() == 7
        assert len(node.handle("users", ReplicatedDict).items()) == 600
        node.handle("hits", Counter).add(1)
    with replicate_many({"hits": Counter, "users": ReplicatedDict}, cluster="new", data=data, nodes=nodes) as node:
        assert node.handle("hits", Counter).get() == 8
