"""`quorate rollback` and `quorate history` on real nodes: by revision and time, and a node that is killed meanwhile."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import pytest

from quorate.machines.kv.commands import Put, prefix_end
from quorate.service.client.errors import QuorateError
from quorate.service.client.sync import Client

from tests.cli.command import QUORATE, done, quorate
from tests.cluster import LocalCluster, environment, until

OPTIONS = "heartbeat_s = 0.05\nelection_timeout_s_min = 0.3"


def contents(client: Client, **options: bool) -> dict[bytes, bytes]:
    """All that is there, of one revision."""
    found: dict[bytes, bytes] = {}
    first, revision, more = b"\0", 0, True
    while more:
        page = client.range(first, prefix_end(b""), limit=2000, revision=revision, **options)  # type: ignore[arg-type]
        found |= {kv.key: kv.value for kv in page.kvs}
        revision, more = revision or page.revision, page.more
        first = page.kvs[-1].key + b"\0" if page.kvs else first
    return found


def begins_anew_with(cluster: LocalCluster, expected: dict[bytes, bytes]) -> None:
    """`quorate recover` of a node with the rollback in its log applies it to its end."""
    cluster.stop()
    done("recover", "--data", str(cluster.data(1)), "--to-one-node", "--yes")
    command = [*QUORATE, "node", "--config", str(cluster.folder / "n1-recovered" / "node.toml")]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as alone:
        try:
            with cluster.client(1) as client:
                assert contents(client) == expected
        finally:
            alone.kill()


@pytest.mark.slow
def test_by_revision_and_by_time(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, 3, "raft", f"[raft]\n{OPTIONS}") as cluster:
        env = {"QUORATE_ENDPOINTS": ",".join(cluster.endpoints)}
        with cluster.client() as client:
            for number in range(30):
                client.put(b"a/%d" % (number % 5), b"%d" % number)
            client.put(b"b", b"old")
            good, revision = contents(client), client.get(b"b").mod_revision  # type: ignore[union-attr]
            until(lambda: (at := client.history().at) and at.revision == revision, "the log has said what time it is")
            told = client.history().at
            assert told is not None
            assert abs(told.time_ns / 1e9 - time.time()) < 60
            until(lambda: time.time_ns() > told.time_ns + 10**9, "a second has passed")
            for number in range(7):
                client.put(b"a/%d" % number, b"bad")
            client.delete(b"b")
            bad = contents(client)

            plan = done("rollback", "--to-revision", str(revision), "--prefix", "a/", "--dry-run", "--json", **env).json
            assert contents(client) == bad, "a dry run changes nothing"
            assert [one["is_delete"] for one in plan["keys"]] == [False] * 5 + [True] * 2
            made = done("rollback", "--to-revision", str(revision), "--prefix", "a/", "--json", **env).json
            same = ("puts", "deletes", "digest", "to_revision")
            assert {name: plan[name] for name in same} == {name: made[name] for name in same}
            assert contents(client) == {key: value for key, value in good.items() if key != b"b"}
            back = done("rollback", "--to-time", f"{told.time_ns // 10**9 + 1}", **env).stdout.decode()
            assert f"as of revision {revision}" in back
            assert contents(client) == good
            undone = quorate("rollback", "--to-revision", str(made["before"]), **env)
            assert "nothing was otherwise" not in undone.stdout.decode()
            assert contents(client) == bad

            early = quorate("rollback", "--to-time", "2001-01-01T00:00:00Z", **env)
            assert (early.code, "no revision as old as" in early.stderr) == (1, True), early.stderr
            for words in (("--to-revision", "99999"), ("--to-time", "soon"), ("--to-time", "2026-01-01T00:00:00"), ()):
                wrong = quorate("rollback", *words, **env)
                assert wrong.code == 2, wrong.stderr
            shown = done("history", "--json", **env).json
            assert [one["to_revision"] for one in shown["rollbacks"]] == [revision, revision, made["before"]]
            assert all("@" in one["who"] for one in shown["rollbacks"])
            assert all(abs(one["time_ns"] / 1e9 - time.time()) < 600 for one in shown["rollbacks"])
            done("history", "keep", "--revisions", "10", **env)
            assert "keeps at least 10 revisions" in done("history", **env).stdout.decode()
            gone = quorate("rollback", "--to-revision", str(revision), **env)
            assert (gone.code, "has been compacted" in gone.stderr) == (2, True), gone.stderr


@pytest.mark.slow
def test_a_node_that_is_killed_in_the_middle_has_all_of_it_or_nothing(tmp_path: Path) -> None:
    """Many keys; the leader dies while it applies them. Reads see the one state or the other, never a part."""
    keys = 40_000
    with LocalCluster(tmp_path, 3, "raft", f"[raft]\n{OPTIONS}") as cluster:
        with cluster.client() as client:
            for value in (b"good", b"bad"):
                for start in range(0, keys, 100):
                    puts = [Put(b"k%06d" % number, value) for number in range(start, start + 100)]
                    client.txn([], puts)  # type: ignore[arg-type]
                if value == b"good":
                    revision = client.put(b"mark", b"here")
            before = contents(client)
            good = {key: b"good" if key != b"mark" else value for key, value in before.items()}
            plan = client.plan_rollback(revision)
            assert plan.puts == keys
        seen: list[set[bytes]] = []
        is_over = threading.Event()

        def read() -> None:
            while not is_over.is_set():
                for node in cluster.statuses():
                    try:
                        with cluster.client(node, timeout_s=5) as one:
                            found = contents(one, serializable=True)
                    except QuorateError:
                        continue
                    if len(found) == len(good):
                        seen.append({value for key, value in found.items() if key != b"mark"})

        reading = threading.Thread(target=read, daemon=True)
        reading.start()
        leader = cluster.leader()

        def kill() -> None:
            def is_midway() -> bool:
                status = cluster.statuses().get(leader)
                return status is not None and status.applied_index < status.commit_index

            until(is_midway, "the leader applies the rollback", timeout_s=30)
            cluster.kill(leader)
            killed.append(leader)

        killed: list[int] = []

        until(lambda: {b"bad"} in seen, "a reader has read what is there")
        killing = threading.Thread(target=kill, daemon=True)
        killing.start()
        with cluster.client() as client:
            result = client.rollback(revision)
            killing.join()
            assert killed, "it was not killed in the middle"
            assert result.puts == keys
            assert contents(client) == good
        cluster.start_node(leader)
        until(
            lambda: cluster.status(leader).applied_index >= cluster.status(cluster.leader()).commit_index, "all again"
        )
        with cluster.client(leader) as client:
            assert contents(client, serializable=True) == good
        until(lambda: {b"good"} in seen, "and what is there again")
        is_over.set()
        reading.join()
        assert all(len(values) == 1 for values in seen), "a part of it was seen"
        begins_anew_with(cluster, good)
