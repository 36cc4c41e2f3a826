"""`quorate up`: real clusters through their whole life."""

import asyncio
import os
import shutil
import signal
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quorate.cli import up as up_module
from quorate.cli.folder import ClusterFolder

from tests.cli.command import Up, quorate
from tests.cluster import LocalCluster, until
from tests.ports import free_base_port
from tests.wire.harness import needs_ipv6


def _lives(pid: int) -> bool:
    """Whether a process runs. A zombie, whose parent is yet to ask for its exit code, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _leader(endpoints: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        rows = quorate("status", "--json", "--endpoints", endpoints).json["nodes"]
        return next((row for row in rows if row["role"] == "leader"), None)

    return until(found, "a leader")


def test_a_cluster_survives_its_leader_and_a_restart(tmp_path: Path) -> None:
    data, base = tmp_path / "data", str(free_base_port(3))
    with Up("--data", data, "--base-port", base) as up:
        ready = up.event("ready")
        endpoints = ",".join(ready["endpoints"])
        assert [row["name"] for row in ready["nodes"]] == ["n1", "n2", "n3"]
        assert quorate("put", "k", "v1", "--endpoints", endpoints).code == 0

        leader = _leader(endpoints)
        os.kill(leader["pid"], signal.SIGKILL)
        ended = up.event("node_ended")
        assert (ended["name"], ended["exit_code"]) == (leader["name"], -signal.SIGKILL)
        assert any("serves clients" in line for line in ended["log_tail"])
        assert ended["restart"] == f"quorate node --config {data}/cluster.toml --node {leader['name'][1:]}"

        read = until(
            lambda: found if (found := quorate("get", "k", "--endpoints", endpoints)).code == 0 else None, "a read"
        )
        assert read.stdout == b"v1\n"
        assert quorate("put", "k", "v2", "--endpoints", endpoints, "--timeout", "30").code == 0
        others = [row["pid"] for row in ready["nodes"] if row["pid"] != leader["pid"]]
        assert all(map(_lives, others))
        assert up.stop(signal.SIGTERM) == 0
        up.event("stopped")
        assert not any(map(_lives, others))

    with Up("--data", data) as up:  # nodes, ports and name as the folder has them
        again = up.event("ready")
        assert (again["cluster"], again["endpoints"]) == (ready["cluster"], ready["endpoints"])
        assert quorate("get", "k", "--endpoints", endpoints).stdout == b"v2\n"
        assert up.interrupt() == 0
    logs = [(data / f"n{node}.log").read_text() for node in (1, 2, 3)]
    assert not any("stopping: SIGINT" in log for log in logs)  # Ctrl-C is for `up`, which then stops them in order
    assert [log.count('msg="stopped"') for log in logs] == [1 if f"n{n}" == leader["name"] else 2 for n in (1, 2, 3)]


def test_text_for_a_person(tmp_path: Path) -> None:
    base = free_base_port(1)
    with Up("--nodes", "1", "--data", tmp_path / "one", "--base-port", str(base), as_json=False) as up:
        assert up.line() == f"cluster ready: 127.0.0.1:{base + 1}\n"
        assert f"n1  127.0.0.1:{base + 1}  pid " in up.line()
        lines = [up.line() for _ in range(5)]
        assert "  quorate put greeting hello\n" in lines
        assert f"  export QUORATE_ENDPOINTS=127.0.0.1:{base + 1}\n" in lines
        pid = quorate("status", "--json", "--endpoints", f"127.0.0.1:{base + 1}").json["nodes"][0]["pid"]
        os.kill(pid, signal.SIGKILL)
        assert up.process.wait(60) == 1
        errors = up.errors()
    assert f"n1 (pid {pid}) was killed by SIGKILL. The end of its log, {tmp_path}/one/n1.log:" in errors
    assert f"quorate node --config {tmp_path}/one/cluster.toml --node 1" in errors
    assert "all nodes have ended" in errors


def test_nodes_do_not_outlive_an_up_that_was_killed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Up("--data", data, "--base-port", str(free_base_port(3))) as up:
        ready = up.event("ready")
        pids = [row["pid"] for row in ready["nodes"]]
        assert quorate("put", "k", "v", "--endpoints", ",".join(ready["endpoints"])).code == 0
        up.process.kill()
        up.process.wait()
        # At once: it waits until the ports are free.
        with Up("--data", data) as next_up:
            endpoints = ",".join(next_up.event("ready")["endpoints"])
            assert quorate("get", "k", "--endpoints", endpoints).stdout == b"v\n"
            until(lambda: not any(map(_lives, pids)), "the nodes have ended")
            assert next_up.stop() == 0


def test_ephemeral_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Up("--ephemeral", "--nodes", "1", "--base-port", str(free_base_port(1))) as up:
        up.event("ready")
        (folder,) = tmp_path.iterdir()
        assert (folder / "n1" / "journal").is_dir()
        assert up.stop() == 0
    assert list(tmp_path.iterdir()) == []


def test_one_folder_serves_one_up(tmp_path: Path) -> None:
    with Up("--nodes", "1", "--data", tmp_path, "--base-port", str(free_base_port(1))) as up:
        up.event("ready")
        second = quorate("up", "--data", str(tmp_path))
        assert second.code == 2
        assert f"in use by another `quorate up`, process {up.process.pid}" in second.stderr
        assert up.stop() == 0


def test_a_port_in_use_is_exit_2(tmp_path: Path) -> None:
    base = free_base_port(3)
    for taken, use in ((base + 2, "clients"), (base + 103, "peers")):
        with socket.create_server(("127.0.0.1", taken)):
            outcome = quorate("up", "--data", str(tmp_path / use), "--base-port", str(base))
        assert outcome.code == 2
        assert f"127.0.0.1:{taken}, the port of node {(taken - base) % 100} for its {use}: in use" in outcome.stderr
        assert "--base-port" in outcome.stderr


@needs_ipv6
def test_names_ipv6_and_wildcards_in_the_folders_configuration(tmp_path: Path) -> None:
    base = free_base_port(3)
    ClusterFolder(tmp_path, 3, None, base).close()
    config = tmp_path / "cluster.toml"
    first, *rest = config.read_text().split("[nodes.2]")
    text = first.replace("127.0.0.1", "localhost") + "[nodes.2]" + rest[0].replace("127.0.0.1", "[::1]")
    extra = f'listen_peer = "[::]:{base + 103}"\nlisten_client = "[::]:{base + 3}"\n'
    config.write_text(text.rstrip() + "\n" + extra)
    endpoints = f"localhost:{base + 1},[::1]:{base + 2},[::1]:{base + 3}"
    with Up("--data", tmp_path) as up:
        assert up.event("ready")["endpoints"] == endpoints.split(",")
        assert quorate("put", "k", "v", "--endpoints", endpoints).code == 0
        rows = quorate("members", "--json", "--endpoints", f"127.0.0.1:{base + 3}").json
        assert rows["members"] == [1, 2, 3]
        assert up.stop() == 0
    with socket.create_server(("127.0.0.1", base + 3)):
        outcome = quorate("up", "--data", str(tmp_path))
    assert outcome.code == 2
    assert f"[::]:{base + 3}, the port of node 3 for its clients: in use" in outcome.stderr
    config.write_text(text.replace(f"localhost:{base + 101}", f"no.such.host.invalid:{base + 101}"))
    outcome = quorate("up", "--data", str(tmp_path))
    assert outcome.code == 2
    assert "'no.such.host.invalid' could not be looked up" in outcome.stderr
    assert "Change it in the folder's cluster.toml" in outcome.stderr


def test_a_node_that_cannot_start_is_reported_and_the_others_serve(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Up("--data", data, "--base-port", str(free_base_port(3))) as up:
        up.event("ready")
        assert up.stop() == 0
    journal = data / "n2" / "journal"
    for file in (*journal.glob("*.journal"), data / "n2" / "identity"):  # whose folder it is cannot be told
        file.write_bytes(os.urandom(64))
    with Up("--data", data) as up:
        ended = up.event("node_ended")
        assert (ended["name"], ended["exit_code"]) == ("n2", 1)
        assert any(str(data / "n2" / "identity") in line for line in ended["log_tail"])
        assert ended["log_tail"][-1].endswith("--node 2 --repair")
        ready = up.event("ready")
        assert [row["name"] for row in ready["nodes"]] == ["n1", "n3"]
        assert up.stop() == 0


def test_a_cluster_that_serves_is_ready_though_one_node_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalCluster(tmp_path) as cluster:
        processes = SimpleNamespace(living=[SimpleNamespace(node=node) for node in cluster.ids])
        silent = next(node for node in cluster.ids if node != cluster.leader(everyone=True))
        cluster.pause(silent)
        monkeypatch.setattr(up_module, "ALL_KNOW_S", 0.1)
        config = SimpleNamespace(app="", ledger=None)
        statuses = asyncio.run(up_module._wait_until_it_serves(processes, cluster.endpoints, config))
        assert statuses is not None
        assert set(statuses) == set(cluster.ids) - {silent}
        cluster.kill(next(iter(statuses)))
        monkeypatch.setattr(up_module, "READY_TIMEOUT_S", 3.0)  # one of three serves nobody
        assert asyncio.run(up_module._wait_until_it_serves(processes, cluster.endpoints, config)) is None


def test_a_closed_terminal_stops_it(tmp_path: Path) -> None:
    with Up("--nodes", "1", "--data", tmp_path, "--base-port", str(free_base_port(1))) as up:
        (node,) = up.event("ready")["nodes"]
        assert up.stop(signal.SIGHUP) == 0
        assert not _lives(node["pid"])


def test_a_second_signal_kills_what_does_not_stop(tmp_path: Path) -> None:
    with Up("--data", tmp_path, "--base-port", str(free_base_port(3))) as up:
        stuck, *others = (row["pid"] for row in up.event("ready")["nodes"])
        os.kill(stuck, signal.SIGSTOP)
        up.process.send_signal(signal.SIGTERM)
        until(lambda: not any(map(_lives, others)), "the other nodes have stopped")
        assert _lives(stuck)
        assert up.stop(signal.SIGINT) == 0
        assert not _lives(stuck)
        assert up.errors() == "n1 did not stop in time and was killed\n"


def test_nodes_that_may_lie_serve_the_same_commands(tmp_path: Path) -> None:
    data, base = tmp_path / "data", str(free_base_port(4))
    with Up("--protocol", "pbft", "--nodes", "4", "--data", data, "--base-port", base) as up:
        ready = up.event("ready")
        assert [row["role"] for row in ready["nodes"]] == ["primary", "backup", "backup", "backup"]
        env = {"QUORATE_ENDPOINTS": ",".join(ready["endpoints"])}
        assert quorate("put", "k", "v", **env).code == 0
        assert quorate("get", "k", **env).stdout == b"v\n"
        rows = quorate("status", "--json", **env).json["nodes"]
        assert [(row["role"], row["leader"], row["term"]) for row in rows] == [
            (role, "n1", 0) for role in ("primary", "backup", "backup", "backup")
        ]
        os.kill(rows[3]["pid"], signal.SIGKILL)
        assert quorate("delete", "k", **env).stdout == b"1\n"
        assert quorate("get", "k", **env).code == 1

        alone = quorate("get", "k", "--endpoints", ready["endpoints"][1])
        assert alone.code == 2
        assert "give the address of every node, or say how many faults" in alone.stderr
        trusted = until(
            lambda: (
                found
                if (found := quorate("get", "k", "--endpoints", ready["endpoints"][1], "--faults", "0")).code == 1
                else None
            ),
            "one node's word",
        )
        assert "not found" in trusted.stderr
        assert up.stop(signal.SIGTERM) == 0


def test_too_few_nodes_for_a_liar_are_told_so(tmp_path: Path) -> None:
    with Up("--protocol", "pbft", "--nodes", "1", "--data", tmp_path, "--base-port", free_base_port(1)) as up:
        [endpoint] = up.event("ready")["endpoints"]
        assert quorate("put", "k", "v", "--endpoints", endpoint).code == 0
        assert up.stop(signal.SIGTERM) == 0
        assert "note: 1 nodes bear no lying node, 4 bear one" in up.errors()


def test_a_node_of_it_that_lost_its_folder_is_not_begun_anew(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Up("--data", data, "--base-port", str(free_base_port(3))) as up:
        ready = up.event("ready")
        assert quorate("put", "k", "v", "--endpoints", ",".join(ready["endpoints"])).code == 0
        assert up.stop(signal.SIGTERM) == 0
    for path in (data / "cluster.toml", data / "n1.log", data / "n1" / "identity"):
        assert path.stat().st_mode & 0o777 == 0o600
    shutil.rmtree(data / "n2")
    with Up("--data", data) as up:
        ended = up.event("node_ended")
        assert (ended["name"], ended["exit_code"]) == ("n2", 1)
        assert any("n2 has no data of node 2" in line for line in ended["log_tail"])
        endpoints = ",".join(up.event("ready")["endpoints"])
        assert quorate("get", "k", "--endpoints", endpoints, "--timeout", "30").stdout == b"v\n"
        assert up.stop(signal.SIGTERM) == 0
    for node in ("n1", "n3"):
        shutil.rmtree(data / node)
    with Up("--data", data) as up:  # there is nothing left that anybody could remember
        up.event("ready")
        assert up.stop(signal.SIGTERM) == 0
