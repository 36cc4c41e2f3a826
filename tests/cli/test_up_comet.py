"""A cluster of `quorate up --app kvstore`, by its RPC: a subscriber, our light client, and the one of CometBFT."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from quorate.ledger.comet.light_blocks import LightBlock
from quorate.ledger.comet.light_client import TrustOptions, bisection
from quorate.ledger.comet.times import NS_PER_S, Timestamp

from tests.cli.comet_chain import PATIENCE_S, Chain, chain, light, needs_cometbft

aiohttp = pytest.importorskip("aiohttp", reason="the RPC needs aiohttp: pip install 'quorate[comet]'")
pytestmark = pytest.mark.slow

HEIGHTS = 12


def test_a_subscriber_hears_of_blocks_and_transactions(tmp_path: Path) -> None:
    async def heard(made: Chain) -> set[str]:
        kinds: set[str] = set()
        async with (
            asyncio.timeout(PATIENCE_S),
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{made.urls[1]}/websocket") as link,
        ):
            for place, query in enumerate(("tm.event='NewBlock'", "tm.event='Tx' AND app.key='name'")):
                call = {"jsonrpc": "2.0", "id": place, "method": "subscribe", "params": {"query": query}}
                await link.send_json(call)
                assert (await link.receive_json())["result"] == {}
            await asyncio.to_thread(made.get, 'broadcast_tx_commit?tx="name=Ada"')
            while len(kinds) < 2:
                kinds.add((await link.receive_json())["result"]["data"]["type"])
        return kinds

    with chain(tmp_path) as made:
        assert asyncio.run(heard(made)) == {"tendermint/event/NewBlock", "tendermint/event/Tx"}


def test_our_light_client_follows_the_chain(tmp_path: Path) -> None:
    with chain(tmp_path) as made:
        made.grow(HEIGHTS)
        target = made.height - 1
        trusted, wanted = made.light_block(1, made.urls[0]), made.light_block(target, made.urls[3])
        options = TrustOptions(period_ns=3600 * NS_PER_S)
        assert verified(made, bisection(trusted, wanted, options, Timestamp.of_ns(time.time_ns())))[-1] == wanted


def verified(made: Chain, steps: Generator[int, LightBlock, list[LightBlock]]) -> list[LightBlock]:
    """What the steps return, with what they ask for."""
    answer: Any = None
    while True:
        try:
            height = steps.send(answer)
        except StopIteration as done:
            blocks: list[LightBlock] = done.value
            return blocks
        answer = made.light_block(height, made.urls[2])


@needs_cometbft
def test_the_light_client_of_cometbft_verifies_the_chain(tmp_path: Path) -> None:
    with chain(tmp_path) as made:
        made.grow(HEIGHTS)
        with light(tmp_path, made, made.urls) as client:
            target = made.height - 1
            seen = client.get(f"commit?height={target}")
            assert seen["signed_header"] == made.get(f"commit?height={target}", made.urls[3])["signed_header"]
            block, ours = client.get(f"block?height={target}"), made.get(f"block?height={target}")
            assert (block["block_id"], block["block"]["header"]) == (ours["block_id"], ours["block"]["header"])
            assert client.get(f"validators?height={target}") == made.get(f"validators?height={target}")
        first = made.first_hash()
        wrong = ("0" if first[0] != "0" else "1") + first[1:]
        with pytest.raises(AssertionError, match="it ended"), light(tmp_path / "w", made, made.urls, wrong) as client:
            client.get("commit?height=2")
