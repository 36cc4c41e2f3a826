"""Evidence that somebody shows to one node by its RPC reaches a block, by any proposer, and its app.

``tests/cli/test_up_evidence.py`` has more of nodes without an app.
"""

import asyncio
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.ledger.comet.blocks import BLOCK
from quorate.ledger.comet.evidence import MISCONDUCT, DuplicateVoteEvidence, duplicate_votes, evidence_id
from quorate.ledger.comet.json_shapes import to_json
from quorate.ledger.comet.validators import key_address
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.signed_bytes import comet_vote, vote_bytes

from tests.runtime.servers import run, until
from tests.service.comet.test_node_rpc import rpc_servers
from tests.service.comet.test_requests_rpc import client_of, request_servers

aiohttp = pytest.importorskip("aiohttp", reason="the RPC needs aiohttp: pip install 'quorate[comet]'")

SHOWN, LIAR = 2, 3
BLOCKS = (bytes(64) + b"\0\0\0\1", b"1" * 64 + b"\0\0\0\1")


def double(made: Any, shown: int = SHOWN, liar: int = LIAR, height: int = 1) -> DuplicateVoteEvidence:
    """Two prevotes of the liar."""
    chain = made.core(shown)
    block = BLOCK.decode(chain.log.after(height - 1)[0].block)
    keys = replace(made.config, node=liar).load_keys()
    validators = made.reader(shown).core.chain.state.validators.validators
    votes = []
    for name in BLOCKS:
        vote = comet_vote(Step.PREVOTE, height, 0, name, block.header.time.ns())
        data = vote_bytes(chain.chain.id, Step.PREVOTE, height, 0, name, block.header.time.ns())
        address = key_address(keys.keyring.public(liar))
        votes.append(replace(vote, validator_address=address, signature=keys.sign_canonical(data)))
    return duplicate_votes(votes[0], votes[1], validators, block.header.time)


async def show(made: Any, piece: DuplicateVoteEvidence, node: int = SHOWN) -> Any:
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "broadcast_evidence",
        "params": {"evidence": to_json(MISCONDUCT, piece)},
    }
    async with aiohttp.ClientSession() as session, session.post(made.url(node, ""), data=json.dumps(call)) as answer:
        return await answer.json()


async def blamed(made: Any, node: int) -> list[Any]:
    """Of all blocks, as the RPC shows them."""
    height = int((await made.get("status", node))["sync_info"]["latest_block_height"])
    blocks = [(await made.get(f"block?height={at}", node))["block"] for at in range(1, height + 1)]
    return [piece for block in blocks for piece in block["evidence"]["evidence"]]


def test_evidence_that_one_node_is_shown_is_in_a_block_of_the_others_after_a_restart_of_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with rpc_servers(tmp_path, 4) as made:
            await made.level(1)
            piece = double(made)
            refused = await show(made, replace(piece, validator_power=7))
            assert "failed to add evidence: evidence: a power of 7 of 4" in str(refused["error"])
            (one, other) = await asyncio.gather(show(made, piece), show(made, piece))
            assert one["result"] == other["result"] == {"hash": b64encode(evidence_id(piece)).decode()}
            await until(lambda: all(len(made.core(node).accusing.kept) == 1 for node in made.ids))
            assert await blamed(made, 1) == [], "no block is made for evidence alone"
            await made.stop()
            await made.start(1, 3, 4)
            await until(lambda: all(len(made.core(node).accusing.kept) == 1 for node in made.running))
            done = await made.get('broadcast_tx_commit?tx="name=Ada"')
            await made.level(int(done["height"]))
            assert await blamed(made, 4) == [to_json(MISCONDUCT, piece)], "in the first block"
            await made.start(2)  # three validators are left, and two are no quorum
            for n in range(3):
                await made.get(f'broadcast_tx_commit?tx="k{n}=1"')
            await made.level(4)
            assert await blamed(made, 4) == [to_json(MISCONDUCT, piece)]
            assert not made.core(1).accusing.kept
            found = await made.get("validators", 4)
            liar = piece.vote_a.validator_address.hex().upper()
            assert liar not in {validator["address"] for validator in found["validators"]}, "the kvstore punishes it"
            again = await show(made, piece, 1)
            assert again["result"] == one["result"], "as CometBFT answers to what a block has"

    run(main())


def test_without_an_app_it_is_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        async with request_servers(tmp_path) as made:
            client = await client_of(made)
            piece = double(made, 1, 1)
            for wrong, why in (
                (replace(piece, total_voting_power=7), "failed to add evidence: evidence: a power of 1 of 7"),
                (replace(piece, vote_a=replace(piece.vote_a, height=9)), "failed to add evidence: evidence: "),
            ):
                assert why in (await show(made, wrong, 1))["error"]["data"]
            one, other = await asyncio.gather(show(made, piece, 1), show(made, piece, 1))
            assert one["result"] == other["result"] == {"hash": b64encode(evidence_id(piece)).decode()}
            await made.stop()
            await made.start()
            assert await blamed(made, 1) == [], "no block is made for evidence alone"
            for n in range(2):
                await made.stored(await made.brought(client.put(b"k", b"%d" % n)))
            assert await blamed(made, 1) == [to_json(MISCONDUCT, piece)]
            assert (await show(made, piece, 1))["result"] == one["result"], "a block has it"

    run(main())
