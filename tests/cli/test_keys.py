"""`quorate put`, `get`, `delete` and `status` on a cluster of real processes."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Outcome, quorate
from tests.cluster import LocalCluster, until

MIB = 1 << 20


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("keys")) as found:
        yield found


@pytest.fixture(autouse=True)
def _endpoints(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUORATE_ENDPOINTS", ",".join(cluster.endpoints))


def _get(*arguments: str | bytes) -> Outcome:
    return quorate("get", *arguments)


def test_put_get_delete() -> None:
    assert quorate("put", "greeting", "hello").stdout == b"OK\n"
    assert _get("greeting").stdout == b"hello\n"
    deleted = quorate("delete", "greeting")
    assert (deleted.code, deleted.stdout) == (0, b"1\n")
    again = quorate("delete", "greeting")
    assert (again.code, again.stdout) == (1, b"0\n")
    gone = _get("greeting")
    assert (gone.code, gone.stdout, gone.stderr) == (1, b"", "not found\n")


def test_json_of_each() -> None:
    revision = quorate("put", "j", "1", "--json").json["revision"]
    assert quorate("put", "j", "2", "--json").json == {"revision": revision + 1}
    found = _get("j", "--json").json
    assert found == {
        "revision": revision + 1,
        "kvs": [
            {
                "key": "j",
                "value": "2",
                "create_revision": revision,
                "mod_revision": revision + 1,
                "version": 2,
                "lease": 0,
            }
        ],
    }
    assert "value" not in _get("j", "--json", "--keys-only").json["kvs"][0]
    assert quorate("delete", "j", "--json").json == {"deleted": 1}
    missing = _get("j", "--json")
    assert (missing.code, missing.json) == (1, {"revision": revision + 2, "kvs": []})


def test_prefix() -> None:
    for name in ("p", "p/1", "p/2", "q"):
        assert quorate("put", name, f"value of {name}").code == 0
    assert _get("p/", "--prefix").stdout == b"p/1\nvalue of p/1\np/2\nvalue of p/2\n"
    assert _get("p", "--prefix", "--keys-only").stdout == b"p\np/1\np/2\n"
    assert _get("p", "--prefix", "--keys-only", "--limit", "2").stdout == b"p\np/1\n"
    assert _get("p", "--keys-only").stdout == b"p\n"
    assert set(_get("", "--prefix", "--keys-only").stdout.split()) >= {b"p", b"q"}
    assert _get("none of them", "--prefix").code == 1
    assert quorate("delete", "p", "--prefix").stdout == b"3\n"
    assert _get("q").code == 0


def test_bytes_pass_unchanged_and_are_base64_in_json() -> None:
    key, value = b"bytes/\xff\xfe", bytes(range(256)) + b"\n"
    assert quorate("put", key, "-", stdin=value).code == 0
    assert _get(key).stdout == value + b"\n"
    (found,) = _get(key, "--json").json["kvs"]
    assert "key" not in found
    assert "value" not in found
    assert base64.b64decode(found["key_base64"]) == key
    assert base64.b64decode(found["value_base64"]) == value


def test_an_empty_value_is_a_value() -> None:
    assert quorate("put", "empty", "").code == 0
    found = _get("empty")
    assert (found.code, found.stdout) == (0, b"\n")


def test_a_range_larger_than_an_answer_comes_in_pages(cluster: LocalCluster) -> None:
    values = {f"big/{number}": bytes([65 + number]) * MIB for number in range(5)}
    with cluster.client() as client:
        for key, value in values.items():
            client.put(key.encode(), value)
    expected = b"".join(key.encode() + b"\n" + value + b"\n" for key, value in values.items())
    assert _get("big/", "--prefix").stdout == expected
    assert _get("big/", "--prefix", "--limit", "4", "--keys-only").stdout.split() == [b"big/%d" % n for n in range(4)]


def test_a_value_above_the_limit_is_exit_2() -> None:
    outcome = quorate("put", "huge", "-", stdin=bytes(2 * MIB))
    assert outcome.code == 2
    assert "limit" in outcome.stderr


def test_an_empty_key_is_exit_2() -> None:
    for arguments in (["put", "", "v"], ["get", ""], ["delete", ""]):
        outcome = quorate(*arguments)
        assert (outcome.code, outcome.stderr) == (2, "error: a key has at least one byte\n")


def test_serializable_asks_one_node_alone(cluster: LocalCluster) -> None:
    assert quorate("put", "s", "1").code == 0
    assert _get("s", "--serializable", "--endpoints", cluster.endpoints[cluster.leader() - 1]).stdout == b"1\n"


def test_status(cluster: LocalCluster) -> None:
    rows = quorate("status", "--json").json["nodes"]
    leader = f"n{cluster.leader()}"
    assert [row["name"] for row in rows] == ["n1", "n2", "n3"]
    assert [row["endpoint"] for row in rows] == cluster.endpoints
    assert [row["pid"] for row in rows] == [cluster.pid(node) for node in cluster.ids]
    assert {row["name"]: row["role"] for row in rows} == {
        name: "leader" if name == leader else "follower" for name in ("n1", "n2", "n3")
    }
    assert {row["leader"] for row in rows} == {leader}
    assert all(0 < row["applied_index"] <= row["commit_index"] and row["term"] > 0 for row in rows)
    table = quorate("status").stdout.decode().splitlines()
    assert table[0].split() == ["node", "role", "term", "commit", "applied", "lag", "endpoint", "pid"]
    assert [line.split()[0] for line in table[1:]] == ["n1", "n2", "n3"]


def test_nodes_that_are_down_or_cut_off_are_passed_over(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "part") as cluster:
        leader = cluster.leader()
        first, second = (node for node in cluster.ids if node != leader)
        cluster.kill(first)
        for order in ((first, second, leader), (second, first, leader), (second, leader, first)):
            endpoints = ",".join(cluster.endpoints[node - 1] for node in order)
            assert quorate("put", "k", "v", "--endpoints", endpoints).code == 0
        # Of another cluster all at once: it serves clients, and will never hear of a leader.
        cluster.config_path.write_text(cluster.config_path.read_text().replace('cluster = "', 'cluster = "not-'))
        cluster.lose(first)
        cluster.start_node(first)
        endpoints = ",".join(cluster.endpoints[node - 1] for node in (first, second, leader))
        assert quorate("get", "k", "--endpoints", endpoints, "--timeout", "20").stdout == b"v\n"


def test_without_a_quorum(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "lost") as cluster:
        every = ("--endpoints", ",".join(cluster.endpoints))
        assert quorate("put", "k", "v", *every).code == 0
        leader = cluster.leader()
        kept, killed = [node for node in cluster.ids if node != leader]
        cluster.kill(killed)
        part = quorate("status", "--json", *every)
        assert part.code == 0
        (row,) = [row for row in part.json["nodes"] if row["error"]]
        assert (row["role"], row["name"], row["pid"]) == ("unreachable", None, None)
        assert row["endpoint"] == cluster.endpoints[killed - 1]
        cluster.kill(leader)
        write = quorate("put", "k", "w", *every, "--timeout", "1.5")
        assert write.code == 3
        read = quorate("get", "k", *every, "--timeout", "1.5")
        assert (read.code, read.stdout) == (3, b"")
        assert quorate("get", "k", "--serializable", "--endpoints", cluster.endpoints[kept - 1]).stdout == b"v\n"
        none = until(lambda: found if (found := quorate("status", *every)).code else None, "the leader is forgotten")
        assert none.code == 3
        assert "no leader is known (1 of 3 endpoints answered)" in none.stderr
