"""A witness, as a person adds one: real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import done, quorate
from tests.cli.test_members_join import Growing
from tests.cluster import until


@pytest.mark.slow
def test_a_witness_is_added_votes_and_has_nothing_to_recover(tmp_path: Path) -> None:
    with Growing(tmp_path, "raft") as cluster:
        done("put", "k", "a value of some length", **cluster.founders)
        token = cluster.members("add", "n4", "--witness", "--json").json["token"]
        assert cluster.rows()["n4"] == {**cluster.rows()["n4"], "role": "invited", "witness": True}
        other = quorate("members", "add", "n4", **cluster.founders)
        assert (other.code, "node 4 is invited as a witness, and stays one" in other.stderr) == (2, True)

        cluster.start_joining(4, token)
        until(lambda: cluster.has_all(4), f"node 4 follows; log in {cluster.folder}/n4.log")
        assert cluster.rows()["n4"]["role"] == "learner"
        promoted = cluster.members("promote", "n4")
        assert promoted.stdout.strip() == b"1,2,3,4"
        assert "3 of 4 make a quorum, so 1 may fail; 4 answer. n4 is a witness, without data" in promoted.stderr
        row = cluster.rows()["n4"]
        assert (row["role"], row["witness"], row["applied_index"], row["error"]) == ("witness", True, None, None)
        assert b"witness" in done("members", **cluster.founders).stdout

        where = {"QUORATE_ENDPOINTS": ",".join([f"127.0.0.1:{cluster.ports[4][0]}", *cluster.endpoints])}
        done("put", "k", "another value of some length", **where)
        assert done("get", "k", **where).stdout.strip() == b"another value of some length"
        alone = quorate("get", "k", "--timeout", "1", QUORATE_ENDPOINTS=f"127.0.0.1:{cluster.ports[4][0]}")
        assert (alone.code, "this node is a witness, which keeps no state" in alone.stderr) == (3, True)
        led = quorate("leader", "transfer", "n4", **cluster.founders)
        assert (led.code, "node 4 is a witness: it keeps no state, and never leads" in led.stderr) == (2, True)

    data = cluster.data(4)
    kept = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
    assert b"of some length" not in kept
    recovered = quorate("recover", "--data", str(data), "--to-one-node", "--yes")
    assert (recovered.code, "so nothing survives here: choose another node" in recovered.stderr) == (2, True)
