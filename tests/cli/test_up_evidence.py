"""Evidence of a double vote that one node of `quorate up` is shown by its RPC, with an app and without.

It is in a block of the others, though that node is killed; and if that was before it could tell anybody, once it is
back.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from msgspec.structs import replace

from quorate.cli.folder import RPC_PORT_STEP
from quorate.ledger.comet.evidence import MISCONDUCT, DuplicateVoteEvidence, duplicate_votes, evidence_id
from quorate.ledger.comet.json_shapes import to_json
from quorate.ledger.comet.rpc.answers import base64_text
from quorate.ledger.comet.validators import key_address
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.signed_bytes import comet_vote, vote_bytes
from quorate.service.config import load

from tests.cli.comet_chain import Chain, both_kinds
from tests.cli.command import TIMEOUT_S, Up
from tests.cluster import until
from tests.ports import free_base_port, free_steps

pytest.importorskip("aiohttp", reason="the RPC needs aiohttp: pip install 'quorate[comet]'")
pytestmark = pytest.mark.slow

BLOCKS = (bytes(64) + b"\0\0\0\1", b"1" * 64 + b"\0\0\0\1")
"""The names of two that are nobody's."""
NUMBERS = count()
"""No transaction comes twice."""


def double(made: Chain, liar: int) -> DuplicateVoteEvidence:
    """Two prevotes of a node for height 1, signed with its key."""
    shown = made.light_block(1, made.urls[liar - 1])
    keys, time = load(Path(made.config), liar).load_keys(), shown.header.time
    assert keys is not None
    address, votes = key_address(keys.keyring.public(liar)), []
    for name in BLOCKS:
        vote = comet_vote(Step.PREVOTE, 1, 0, name, time.ns())
        signature = keys.sign_canonical(vote_bytes(shown.header.chain_id, Step.PREVOTE, 1, 0, name, time.ns()))
        votes.append(replace(vote, validator_address=address, signature=signature))
    return duplicate_votes(votes[0], votes[1], shown.validator_set.validators, time)


def show(made: Chain, piece: DuplicateVoteEvidence, node: int) -> Any:
    call = urlencode({"evidence": json.dumps(to_json(MISCONDUCT, piece))})
    return made.get("broadcast_evidence?" + call, made.urls[node - 1])


def kill(made: Chain, node: int) -> None:
    os.kill(made.pids[f"n{node}"], signal.SIGKILL)
    assert made.up.event("node_ended")["name"] == f"n{node}"


def pieces(made: Chain, node: int) -> list[Any]:
    """Of all blocks, as this node's RPC shows them."""
    url = made.urls[node - 1]
    head = int(made.get("status", url)["sync_info"]["latest_block_height"])
    blocks = [made.get(f"block?height={height}", url)["block"] for height in range(1, head + 1)]
    return [piece for block in blocks for piece in block["evidence"]["evidence"]]


def is_in_blocks(made: Chain, node: int, *those: DuplicateVoteEvidence) -> None:
    """Soon: a node that had not applied the last block yet is told of the piece again a moment later."""
    wanted = [to_json(MISCONDUCT, piece) for piece in those]

    def found() -> bool:
        made.put(f"more{next(NUMBERS)}=1", made.urls[node - 1])
        return len(pieces(made, node)) >= len(wanted)

    until(found, f"{len(wanted)} pieces of evidence")
    made.put(f"more{next(NUMBERS)}=1", made.urls[node - 1])
    assert pieces(made, node) == wanted


@contextmanager
def clusters(folder: Path, kind: type[Chain]) -> Iterator[Any]:
    """Makes one in this folder, as often as it is called; the last is stopped at the end."""
    rpc, base = str(free_steps(4, RPC_PORT_STEP)), str(free_base_port(4))
    options = ("--protocol", "tendermint", "--nodes", "4", *kind.options, "--rpc-port", rpc, "--base-port", base)
    ups: list[Up] = []

    def make() -> Chain:
        ups.append(Up(*options, "--data", folder / "data").__enter__())
        return kind(ups[-1])

    try:
        yield make
        assert ups[-1].interrupt() == 0
    finally:
        for up in ups:
            up.__exit__(None, None, None)


@both_kinds
def test_what_one_node_is_shown_is_in_a_block_of_the_others(kind: type[Chain], tmp_path: Path) -> None:
    with clusters(tmp_path, kind) as make:
        made: Chain = make()
        made.put("name=Ada")
        first, second = double(made, 2), double(made, 4)
        with pytest.raises(AssertionError, match=r"failed to add evidence: evidence: a power of 7 of 4"):
            show(made, replace(first, validator_power=7), 2)
        assert show(made, first, 2) == {"hash": base64_text(evidence_id(first))}
        assert pieces(made, 4) == [], "no block is made for evidence alone"
        kill(made, 2)
        is_in_blocks(made, 4, first)
        kill(made, 1)
        kill(made, 4)
        assert show(made, second, 3) == {"hash": base64_text(evidence_id(second))}, "nobody is there to hear of it"
        kill(made, 3)
        assert made.up.process.wait(TIMEOUT_S) == 1, "all nodes died"
        again: Chain = make()
        is_in_blocks(again, 1, first, second)
        assert show(again, second, 4) == {"hash": base64_text(evidence_id(second))}, "a block has it"
