"""Nodes that join, move, leave and replace others: real processes, each started as a person starts it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import PATIENCE, QUORATE, Outcome, done, quorate
from tests.cluster import LocalCluster, environment, until
from tests.ports import free_ports

OPTIONS = {
    "raft": "[raft]\nsnapshot_entries = 200\nkeep_entries = 20",
    "multipaxos": "[multipaxos]\nalpha = 64\nsnapshot_entries = 200\nkeep_entries = 20",
    "pbft": "[pbft]\nwindow = 16\ncheckpoint_batches = 8\nsnapshot_batches = 16\nrequest_timeout_s = 1.0",
}
SIZE = {"raft": 3, "multipaxos": 3, "pbft": 4}
SLOW = pytest.mark.slow


class Growing(LocalCluster):
    """Founders, and nodes that join with `quorate node --join`."""

    def __init__(self, folder: Path, protocol: str) -> None:
        super().__init__(folder, SIZE[protocol], protocol, OPTIONS[protocol])
        self.protocol = protocol
        self.ports: dict[int, tuple[int, int]] = {}

    @property
    def env(self) -> dict[str, str]:
        """For commands: where all nodes are that were ever started."""
        joined = [f"127.0.0.1:{port}" for port, _ in self.ports.values()]
        return {"QUORATE_ENDPOINTS": ",".join((*self.endpoints, *joined))}

    @property
    def founders(self) -> dict[str, str]:
        """The same of the founders alone."""
        return {"QUORATE_ENDPOINTS": ",".join(self.endpoints)}

    @property
    def key(self) -> tuple[str, ...]:
        """What an administrator adds."""
        return ("--key", str(self.folder / "keys" / "admin.key")) if self.protocol == "pbft" else ()

    def members(self, *words: str, **env: str) -> Outcome:
        """A change that must succeed."""
        return done("members", *words, *self.key, *PATIENCE, **(env or self.founders))

    def invite(self, node: int) -> str:
        """The token."""
        token: str = self.members("add", f"n{node}", "--json").json["token"]
        return token

    def join_command(self, node: int, token: str, host: str = "127.0.0.1", data: Path | None = None) -> list[str]:
        """What is run on the new node's machine."""
        if node not in self.ports:
            client, peer = free_ports(2)
            self.ports[node] = client, peer
        client, peer = self.ports[node]
        where = ["--listen", f"{host}:{client}", "--listen-peer", f"{host}:{peer}"]
        who = ["--name", f"n{node}", "--token", token, "--data", str(data or self.data(node))]
        return ["node", "--join", ",".join(self.endpoints), *who, *where]

    def start_joining(self, node: int, token: str, **options: Any) -> None:
        """Start it; it runs from then on."""
        self.spawn(node, self.join_command(node, token, **options))

    def join(self, node: int) -> str:
        """Have it join, and wait until it follows; the token."""
        token = self.invite(node)
        self.start_joining(node, token)
        until(lambda: self.has_all(node), f"node {node} follows; log in {self.folder}/n{node}.log")
        return token

    def start_again(self, node: int) -> None:
        """One that has joined, by its configuration."""
        self.spawn(node, ["node", "--config", str(self.data(node) / "node.toml")])

    def spawn(self, node: int, command: list[str]) -> None:
        """A process of this cluster, which ends with the test."""
        with (self.folder / f"n{node}.log").open("ab") as log:
            self.processes[node] = subprocess.Popen(
                [*QUORATE, *command, "--stop-with-parent", str(self._child_end)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(),
                pass_fds=(self._child_end,),
                process_group=0,
            )

    def rows(self) -> dict[str, Any]:
        """What `quorate members` shows, by name."""
        return {row["name"]: row for row in done("members", "--json", **self.founders).json["nodes"]}

    def has_all(self, node: int) -> bool:
        """Whether a node answers, and lacks nothing."""
        row = self.rows().get(f"n{node}")
        return row is not None and row["lag"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["raft", "multipaxos", "pbft"])
def test_a_node_joins_and_another_leaves_for_good(protocol: str, tmp_path: Path) -> None:
    new = SIZE[protocol] + 1
    with Growing(tmp_path, protocol) as cluster:
        done("put", "k", "before", *PATIENCE, **cluster.founders)
        token = cluster.invite(new)
        assert cluster.rows()[f"n{new}"]["role"] == "invited"
        table = done("members", **cluster.founders).stdout.decode()
        assert re.search(
            rf"^n1 +1 +voter +{cluster.layout.peer(1)} +{cluster.layout.client(1)} +[0-9]+ +0$", table, re.M
        )
        assert re.search(rf"^n{new} +{new} +invited +- +- +- +-$", table, re.M), table
        cluster.start_joining(new, token)
        until(lambda: cluster.has_all(new), "the new node follows")
        row = cluster.rows()[f"n{new}"]
        client, peer = cluster.ports[new]
        assert (row["role"], row["client"], row["peer"]) == ("learner", f"127.0.0.1:{client}", f"127.0.0.1:{peer}")
        again = quorate(*cluster.join_command(new, token, data=tmp_path / "other"))
        assert (again.code, "the token was used already" in again.stderr) == (2, True), again.stderr

        grown = ",".join(map(str, range(1, new + 1)))
        promoted = cluster.members("promote", f"n{new}")
        assert promoted.stdout.decode() == f"{grown}\n"
        assert re.search(rf"n{new} vote: . of {new} make a quorum, so 1 may fail.*; {new} answer", promoted.stderr)
        rest = ",".join(map(str, range(2, new + 1)))
        assert cluster.members("remove", "n1", **cluster.env).stdout.decode() == f"{rest}\n"
        assert cluster.members("remove", "n1", **cluster.env).stdout.decode() == f"{rest}\n", "again changes nothing"
        cluster.kill(1)
        done("put", "k", "after", *PATIENCE, **cluster.env)

        for node in range(2, new + 1):  # an outage
            cluster.kill(node)
        for node in range(2, new):
            cluster.start_node(node, wait=False)
        cluster.start_joining(new, token)  # the same command as before
        assert done("get", "k", *PATIENCE, **cluster.env).stdout == b"after\n"
        until(lambda: cluster.has_all(new), "the new node has all")
        assert cluster.stop_node(new) == 0
        cluster.start_again(new)
        until(lambda: cluster.has_all(new), "the new node has all, started by its configuration")
        cluster.start_node(1, wait=False)  # it must not, and does no harm
        until(lambda: "it has left the cluster" in cluster.log(1), "node 1 is told that it left")
        members = {"QUORATE_ENDPOINTS": ",".join(cluster.endpoints[1:])}  # n1 itself knows what it knew
        refused = quorate("members", "add", "n1", *cluster.key, "--timeout", "5", **members)
        assert (refused.code, "a number is used once" in refused.stderr) == (2, True), refused.stderr
        done("put", "k", "last", *PATIENCE, **cluster.env)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", SIZE)
def test_a_node_that_is_killed_while_it_joins_joins_all_the_same(protocol: str, tmp_path: Path) -> None:
    """It is killed before, while and after it asks, and while it fetches a snapshot."""
    new = SIZE[protocol] + 1
    with Growing(tmp_path, protocol) as cluster:
        with cluster.client() as client:
            for number in range(300):
                client.put(b"key %d" % (number % 40), bytes(4000))
            client.put(b"k", b"v")
        token = cluster.invite(new)
        for life, patience_s in enumerate((0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)):
            cluster.start_joining(new, token)
            if life < 4:
                time.sleep(patience_s)
            else:  # once it has joined
                until(lambda: (cluster.data(new) / "node.toml").exists(), f"node {new} has joined")
                time.sleep(patience_s - 0.8)
            assert cluster.processes[new].poll() is None, cluster.log(new)
            cluster.kill(new)
        cluster.start_joining(new, token)
        until(lambda: cluster.has_all(new), "the new node has all")
        cluster.members("promote", f"n{new}")
        endpoint = f"127.0.0.1:{cluster.ports[new][0]}"
        assert done("get", "k", "--serializable", QUORATE_ENDPOINTS=endpoint, QUORATE_FAULTS="0").stdout == b"v\n"


@pytest.mark.slow
@pytest.mark.parametrize("protocol", SIZE)
def test_a_node_that_lost_its_disk_is_replaced(protocol: str, tmp_path: Path) -> None:
    new = SIZE[protocol] + 1
    with Growing(tmp_path, protocol) as cluster:
        done("put", "k", "v", *PATIENCE, **cluster.founders)
        cluster.kill(2)
        shutil.rmtree(cluster.data(2))
        early = quorate("members", "replace", "n2", f"n{new}", *cluster.key, "--timeout", "5", **cluster.founders)
        assert (early.code, f"there is no node n{new}" in early.stderr) == (2, True), early.stderr
        cluster.join(new)
        voters = [1, *range(3, new + 1)]
        for _ in range(2):
            replaced = cluster.members("replace", "n2", f"n{new}", **cluster.env)
            assert replaced.stdout.decode() == ",".join(map(str, voters)) + "\n"
        command = ["node", "--config", str(cluster.config_path), "--node", "2"]
        empty = quorate(*command)
        assert (empty.code, "its folder is lost or its disk is not mounted" in empty.stderr) == (1, True), empty.stderr
        cluster.spawn(2, [*command, "--bootstrap"])
        until(lambda: "it has left the cluster" in cluster.log(2), "the old one is told")
        done("put", "k", "after", *PATIENCE, **cluster.env)
        assert done("members", "--json", **cluster.env).json["members"] == voters


@SLOW
@pytest.mark.parametrize("protocol", SIZE)
def test_nodes_that_move_are_found_again(protocol: str, tmp_path: Path) -> None:
    """A founder, and one that joined; to a name, and to IPv6 where the machine has it."""
    new = SIZE[protocol] + 1
    with Growing(tmp_path, protocol) as cluster:
        done("put", "k", "v", *PATIENCE, **cluster.founders)
        cluster.join(new)
        cluster.members("promote", f"n{new}")
        for node, host in ((new, "localhost"), (1, "[::1]" if has_ipv6() else "localhost")):
            cluster.stop_node(node)
            client, peer = free_ports(2)
            path = cluster.data(node) / "node.toml" if node == new else tmp_path / "moved.toml"
            before = path if node == new else cluster.config_path
            old = (f"127.0.0.1:{cluster.ports[new][0]}", f"127.0.0.1:{cluster.ports[new][1]}")
            if node == 1:
                old = cluster.layout.client(1), cluster.layout.peer(1)
            text = before.read_text().replace(old[0], f"{host}:{client}").replace(old[1], f"{host}:{peer}")
            path.write_text(text)
            cluster.spawn(node, ["node", "--config", str(path), "--node", str(node)])
            env = {"QUORATE_ENDPOINTS": ",".join(cluster.endpoints[1:])}
            moved = cluster.members("move", f"n{node}", f"{host}:{client}", "--peer", f"{host}:{peer}", **env)
            assert moved.code == 0

            def is_there(node: int = node, env: dict[str, str] = env) -> bool:
                rows = {row["id"]: row for row in done("members", "--json", **env).json["nodes"]}
                return rows[node]["lag"] == 0

            until(is_there, f"node {node} has all at its new address")
        cluster.kill(2)  # the others need those that moved
        done("put", "k", "after", *PATIENCE, **env)
        for node in (3, new):  # and find them after a restart, whose configuration has the old addresses
            cluster.kill(node)
        cluster.start_node(3, wait=False)
        cluster.start_again(new)
        done("put", "k", "last", *PATIENCE, **env)


def has_ipv6() -> bool:
    """Whether this machine can listen at its IPv6 loopback."""
    import socket

    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_what_would_lose_the_quorum_is_refused(tmp_path: Path) -> None:
    with Growing(tmp_path, "multipaxos") as cluster:
        done("put", "k", "v", *PATIENCE, **cluster.founders)
        cluster.kill(3)
        for words in (("remove", "n2"), ("demote", "n2"), ("set", "n1,n3")):
            refused = quorate("members", *words, "--timeout", "5", **cluster.founders)
            assert (refused.code, refused.stdout) == (2, b"")
            assert "n1, n3 would vote, 2 of them must live, and 1 answer (n3 not)" in refused.stderr
            assert "--force" in refused.stderr
        assert cluster.members("demote", "n3").stdout == b"1,2\n", "who is dead may go"
        forced = quorate("members", "set", "n2,n3", "--force", "--timeout", "2", **cluster.founders)
        assert forced.code == 3, "decided, perhaps, and not in effect before node 3 is back"
        cluster.start_node(3)
        cluster.members("set", "n2,n3")
        done("put", "k", "w", *PATIENCE, **cluster.founders)


def test_wrong_use(tmp_path: Path) -> None:
    join = ("node", "--join", "127.0.0.1:9", "--data", str(tmp_path / "data"))
    token = "quorate-AAAA"
    for words, why in (
        (("members", "add", "four"), "'four' is not the name of a node: write n and a number"),
        (("members", "add", "n1024"), "'n1024' is not the name of a node"),
        (("members", "remove", "one"), "'one' is no list of nodes"),
        (("members", "move", "n4", "nowhere"), "'nowhere' is not an address"),
        (("members", "move", "n4", "h:65535"), "there is no port after that of h:65535"),
        (("node",), "say which configuration the node has (--config), or which cluster it joins (--join)"),
        (("node", "--join", "h:1", "--config", "x"), "leave out --config and its options"),
        (("node", "--config", "x", "--name", "n4"), "belong to --join: the file says that"),
        (("node", "--join", "h:1"), "--join needs --data"),
        (join, "--join needs --name"),
        ((*join, "--name", "n4"), "--join needs --token"),
        ((*join, "--name", "n4", "--token", token), "--join needs --listen"),
        ((*join, "--name", "n4", "--token", token, "--listen", "h:1"), "this token is damaged"),
        ((*join, "--name", "n4", "--token", "what", "--listen", "h:1"), "this is not a token"),
    ):
        outcome = quorate(*words)
        assert outcome.code == 2, words
        assert why in outcome.stderr, words
    assert not (tmp_path / "data").exists()


def test_a_token_for_another_name_and_endpoints_that_are_not_there(tmp_path: Path) -> None:
    with Growing(tmp_path, "multipaxos") as cluster:
        token = cluster.invite(4)
        command = cluster.join_command(4, token)
        other = quorate(*[word.replace("n4", "n5") if word == "n4" else word for word in command])
        assert (other.code, "the token is for n4, not for n5" in other.stderr) == (2, True)
        wildcard = quorate(*cluster.join_command(4, token, host="0.0.0.0"))
        assert (wildcard.code, "nobody can dial 0.0.0.0" in wildcard.stderr) == (2, True)
        assert "listen_client" in wildcard.stderr
    with pytest.raises(subprocess.TimeoutExpired):  # nobody is there, and it waits for them
        subprocess.run([*QUORATE, *command], env=environment(), capture_output=True, timeout=2, check=False)
    assert not (cluster.data(4) / "node.toml").exists()


def test_a_node_that_joined_is_not_started_elsewhere_by_mistake(tmp_path: Path) -> None:
    with Growing(tmp_path, "multipaxos") as cluster:
        token = cluster.join(4)
        cluster.processes[4].send_signal(signal.SIGTERM)
        assert cluster.processes.pop(4).wait(30) == 0
        cluster.ports[4] = tuple(free_ports(2))  # type: ignore[assignment]
        moved = quorate(*cluster.join_command(4, token))
        assert (moved.code, "n4 has joined, as 127.0.0.1:" in moved.stderr) == (2, True), moved.stderr
        assert "quorate members move n4" in moved.stderr
