"""`quorate members add` and `remove` on real processes: a node that no file names joins, and an old one leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import PATIENCE, done, quorate
from tests.cluster import LocalCluster, until
from tests.ports import free_base_port

OPTIONS = {
    "raft": "[raft]",
    "multipaxos": "[multipaxos]\nalpha = 64",
    "pbft": '[pbft]\nwindow = 16\ncheckpoint_batches = 8\nrequest_timeout_s = 1.0\nadmins = ["{admin}"]',
}


class Growing(LocalCluster):
    """Founders 1 to ``nodes``, and one that is to join, whose file is its own."""

    def __init__(self, folder: Path, nodes: int, protocol: str) -> None:
        super().__init__(folder, nodes, protocol)
        self.options = OPTIONS[protocol]
        if protocol == "pbft":
            shown = done("keys", "show", str(folder / "keys" / "admin.key")).stdout.decode()
            self.options = self.options.format(admin=shown.split()[1])
        self.config_path.write_text(f"{self.layout.toml()}\n{self.options}\n")
        self.files = dict.fromkeys(self.ids, self.config_path)
        port = free_base_port(1)
        self.peer, self.newcomer_client = f"127.0.0.1:{port + 1}", f"127.0.0.1:{port + 2}"

    def write_file_of(self, node: int) -> None:
        """The founders' file, with the new node in it, and which nodes were there before."""
        text = f'{self.layout.toml()}\n[nodes.{node}]\npeer = "{self.peer}"\nclient = "{self.newcomer_client}"\n'
        founders = json.dumps(list(self.ids))
        text += f"\n{self.options}\nfounders = {founders}\n"
        self.files[node] = self.folder / f"n{node}.toml"
        self.files[node].write_text(text.replace('keys = "keys"', f'keys = "keys-{node}"'))

    def start_newcomer(self, node: int) -> None:
        """As on a machine of its own."""
        founders, self.config_path = self.config_path, self.files[node]
        self.processes[node] = self._spawn(node)
        self.config_path = founders

    def endpoints_of(self, *nodes: int) -> str:
        """For the environment of commands."""
        return ",".join(self.layout.client(n) if n in self.ids else self.newcomer_client for n in nodes)


@pytest.mark.parametrize(("protocol", "size"), [("raft", 3), ("multipaxos", 3), ("pbft", 4)])
def test_a_node_joins_and_another_leaves_for_good(protocol: str, size: int, tmp_path: Path) -> None:
    new = size + 1
    key: tuple[str, ...] = ()
    with Growing(tmp_path, size, protocol) as cluster:
        env = {"QUORATE_ENDPOINTS": cluster.endpoints_of(*cluster.ids)}
        done("put", "k", "before", *PATIENCE, **env)
        public: tuple[str, ...] = ()
        if protocol == "pbft":
            keys = str(tmp_path / f"keys-{new}")
            made = done(
                "keys", "add", str(new), "--keyring", str(tmp_path / "keys" / "keyring.toml"), "--out", keys, "--json"
            )
            public = ("--public-key", made.json["public"])
            key = ("--key", str(tmp_path / "keys" / "admin.key"))
        cluster.write_file_of(new)
        cluster.start_newcomer(new)
        add = ("members", "add", str(new), "--peer", cluster.peer, "--client", cluster.newcomer_client, *public)
        grown = ",".join(map(str, range(1, new + 1)))
        assert done(*add, *key, *PATIENCE, **env).stdout.decode() == f"{grown}\n"
        assert done(*add, *key, *PATIENCE, **env).stdout.decode() == f"{grown}\n", "again changes nothing"

        everybody = {"QUORATE_ENDPOINTS": cluster.endpoints_of(*cluster.ids, new)}
        rest = ",".join(map(str, range(2, new + 1)))
        assert done("members", "remove", "1", *key, *PATIENCE, **everybody).stdout.decode() == f"{rest}\n"
        assert done("members", "remove", "1", *key, *PATIENCE, **everybody).stdout.decode() == f"{rest}\n"
        cluster.kill(1)
        others = {"QUORATE_ENDPOINTS": cluster.endpoints_of(*range(2, new + 1))}
        done("put", "k", "after", *PATIENCE, **others)

        for node in range(2, new + 1):  # an outage
            cluster.kill(node)
        for node in range(2, size + 1):
            cluster.start_node(node, wait=False)
        cluster.start_newcomer(new)
        assert done("get", "k", *PATIENCE, **others).stdout == b"after\n"
        assert done("members", "--json", **others).json["members"] == list(range(2, new + 1))

        def newcomer_votes() -> bool:
            [row] = done("status", "--json", QUORATE_ENDPOINTS=cluster.newcomer_client).json["nodes"]
            return row["role"] in ("leader", "follower", "primary", "backup") and row["lag"] == 0

        until(newcomer_votes, "the new node has all and votes")
        cluster.start_node(1, wait=False)  # it must not, and does no harm
        refused = quorate(*add[:2], "1", *add[3:], *key, "--timeout", "5", **others)
        assert refused.code == 2
        assert "node 1 has left the cluster, and a number is used once" in refused.stderr
        done("put", "k", "last", *PATIENCE, **others)
        assert "it has left the cluster" in cluster.log(1)


def test_wrong_use(tmp_path: Path) -> None:
    for words, why in (
        (("members", "add", "4", "--peer", "nowhere", "--client", "h:1"), "'nowhere' is not an address"),
        (("members", "add", "4", "--peer", "h:2", "--client", "h:1", "--public-key", "xy"), "'xy' is not a public key"),
        (("members", "remove", "one"), "'one' is no list of nodes"),
        (("keys", "add", "4", "--keyring", str(tmp_path / "none"), "--out", str(tmp_path)), "cannot be read"),
    ):
        outcome = quorate(*words)
        assert outcome.code == 2
        assert why in outcome.stderr


def test_keys_of_a_node_that_joins(tmp_path: Path) -> None:
    keys, own = tmp_path / "keys", tmp_path / "keys-5"
    done("keys", "generate", "--out", str(keys))
    add = ("keys", "add", "5", "--keyring", str(keys / "keyring.toml"), "--out", str(own))
    made = done(*add).stdout.decode().splitlines()
    shown = done("keys", "show", str(own / "keyring.toml")).stdout.decode().splitlines()
    before = done("keys", "show", str(keys / "keyring.toml")).stdout.decode().splitlines()
    public = done("keys", "show", str(own / "node-5.key")).stdout.decode().split()[1]
    assert made == [f"{own}/node-5.key  {public}", f"{own}/keyring.toml"]
    assert shown == [*before, f"5  {public}"]
    again = quorate(*add)
    assert (again.code, "no key file is ever replaced" in again.stderr) == (2, True)
    taken = quorate("keys", "add", "4", "--keyring", str(keys / "keyring.toml"), "--out", str(own))
    assert (taken.code, "node 4 has a key already" in taken.stderr) == (2, True)
