"""`quorate chain` as a person has it: wallets, what is wrong in words, and a cluster from its first payment on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quorate.ledger.accounts import address_text

from tests.cli.command import done, quorate
from tests.cluster import LocalCluster
from tests.ports import free_base_port
from tests.service.ledger.test_ledger_cluster import genesis_for

NOBODY = f"127.0.0.1:{free_base_port(1) + 1}"
PATIENT = ("--timeout", "60")


def test_a_wallet_is_made_and_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.wallet"
    made = done("chain", "wallet", "new", str(path), "--json", QUORATE_WALLET_PASSWORD="x").json
    assert done("chain", "wallet", "show", str(path)).stdout.decode().strip() == made["address"]
    again = quorate("chain", "wallet", "new", str(path), QUORATE_WALLET_PASSWORD="x")
    assert (again.code, "exists" in again.stderr) == (2, True)
    wrong = quorate("chain", "send", str(path), made["address"], "1", "-e", NOBODY, QUORATE_WALLET_PASSWORD="y")
    assert (wrong.code, "the password is wrong" in wrong.stderr) == (2, True)
    nobody = quorate("chain", "wallet", "new", str(tmp_path / "b.wallet"))
    assert (nobody.code, "nobody to ask" in nobody.stderr) == (2, True)


@pytest.mark.slow
def test_every_command_says_that_no_node_answers(tmp_path: Path) -> None:
    path, proof = tmp_path / "a.wallet", tmp_path / "a.proof"
    env = {"QUORATE_WALLET_PASSWORD": ""}
    address = done("chain", "wallet", "new", str(path), **env).stdout.decode().strip()
    proof.write_text("{}")
    down = ("-e", NOBODY, "--timeout", "0.5")
    for command in (
        ["send", str(path), address, "1"],
        ["balance", address],
        ["block", "1"],
        ["tx", "00" * 32],
        ["status"],
    ):
        outcome = quorate("chain", *command, *down, **env)
        assert outcome.code == 3, (command, outcome.stderr)
        assert "answer" in outcome.stderr
    for command in (["balance", "q1"], ["block", "-1"], ["block", "x"], ["tx", "00"], ["verify", str(proof)]):
        outcome = quorate("chain", *command, *down, **env)
        assert outcome.code == 2, (command, outcome.stderr)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_cluster_is_paid_in_and_its_proofs_are_checked(tmp_path: Path) -> None:
    """Of a cluster whose money is in a wallet's hands, with a node down."""
    env = {"QUORATE_WALLET_PASSWORD": "sesame"}
    alice, bob = tmp_path / "alice.wallet", tmp_path / "bob.wallet"
    for path in (alice, bob):
        done("chain", "wallet", "new", str(path), **env)
    genesis = genesis_for(tmp_path)
    mine = done("chain", "wallet", "show", str(alice)).stdout.decode().strip()
    lines = f'[ledger]\ntime_s = {genesis.time_s}\ncollector = "{address_text(bytes(20))}"\nsubsidy = 7\nfee_min = 2\n'
    with LocalCluster(tmp_path / "c", options=f'{lines}[ledger.accounts]\n"{mine}" = 1000\n') as cluster:
        at = ("-e", ",".join(cluster.endpoints), *PATIENT)
        cluster.kill(cluster.leader())
        paid = done("chain", "send", str(alice), str(bob), "100", "--json", *at, **env).json
        assert paid["height"] == 1
        assert done("chain", "balance", str(alice), "--json", *at).json["balance"] == 1000 - 100 - 2
        assert done("chain", "balance", str(bob), *at).stdout == b"100\n"
        assert done("chain", "balance", address_text(bytes(19) + b"x"), *at).stdout == b"0\n"
        poor = quorate("chain", "send", str(bob), str(alice), "99", *at, **env)
        assert (poor.code, "not paid: it costs 101, and the sender has 100" in poor.stderr) == (1, True)
        block = done("chain", "block", "head", "--json", *at).json
        assert [payment["id"] for payment in block["payments"]] == [paid["id"]]
        assert done("chain", "tx", paid["id"], "--json", *at).json["block"] == block["id"] == paid["block"]
        assert quorate("chain", "block", "2", *at).code == 1
        for what in (paid["id"], str(bob), address_text(bytes(19) + b"x")):
            shown = done("chain", "proof", what, *at)
            file = tmp_path / "proof"
            file.write_bytes(shown.stdout)
            assert done("chain", "verify", str(file), "--json", *at).json["valid"]
            assert done("chain", "verify", str(file), "--block", block["id"], *at).code == 0
            assert quorate("chain", "verify", str(file), "--block", "00" * 32, *at).code == 1
            other = {**json.loads(shown.stdout), "beside": ["11" * 32], "aunts": ["11" * 32]}
            file.write_text(json.dumps(other))
            assert quorate("chain", "verify", str(file), *at).code == 1
        for command in (["put", "k", "v"], ["get", "k"]):
            outcome = quorate(*command, *at)
            assert (outcome.code, "see `quorate chain`" in outcome.stderr) == (2, True), outcome.stderr
        rows = quorate("chain", "status", "--json", *at[:2]).json["nodes"]
        assert [row["height"] for row in rows if row["error"] is None] == [1, 1]
        assert sum(row["error"] is not None for row in rows) == 1
