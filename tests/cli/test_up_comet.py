"""A cluster of `quorate up`, with an app and without, by its RPC: a subscriber, our light client, and the one of
CometBFT; and a node that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from quorate.ledger.comet.light_blocks import LightBlock
from quorate.ledger.comet.light_client import TrustOptions, bisection
from quorate.ledger.comet.times import NS_PER_S, Timestamp
from quorate.service.comet.block_store import FILE_NAME
from quorate.service.comet.indexer import INDEX_FILE

from tests.cli.comet_chain import (
    PATIENCE_S,
    Chain,
    RequestChain,
    answers,
    both_kinds,
    chain,
    light,
    needs_cometbft,
)
from tests.cli.command import QUORATE, environment
from tests.cluster import until

aiohttp = pytest.importorskip("aiohttp", reason="the RPC needs aiohttp: pip install 'quorate[comet]'")
pytestmark = pytest.mark.slow

HEIGHTS = 12


@both_kinds
def test_a_subscriber_hears_of_blocks_and_transactions(kind: type[Chain], tmp_path: Path) -> None:
    async def heard(made: Chain) -> set[str]:
        kinds: set[str] = set()
        async with (
            asyncio.timeout(PATIENCE_S),
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{made.urls[1]}/websocket") as link,
        ):
            for place, query in enumerate(("tm.event='NewBlock'", f"tm.event='Tx' AND {made.about_tx}")):
                call = {"jsonrpc": "2.0", "id": place, "method": "subscribe", "params": {"query": query}}
                await link.send_json(call)
                assert (await link.receive_json())["result"] == {}
            await asyncio.to_thread(made.put, "name=Ada")
            while len(kinds) < 2:
                kinds.add((await link.receive_json())["result"]["data"]["type"])
        return kinds

    with chain(tmp_path, kind) as made:
        assert asyncio.run(heard(made)) == {"tendermint/event/NewBlock", "tendermint/event/Tx"}


@both_kinds
def test_our_light_client_follows_the_chain(kind: type[Chain], tmp_path: Path) -> None:
    with chain(tmp_path, kind) as made:
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
@both_kinds
def test_the_light_client_of_cometbft_verifies_the_chain(kind: type[Chain], tmp_path: Path) -> None:
    with chain(tmp_path, kind) as made:
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


@contextmanager
def node_again(made: Chain, node: int) -> Iterator[None]:
    """A node that ended, until it serves."""
    command = [*QUORATE, "node", "--config", made.config, "--node", str(node)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment())
    try:
        until(lambda: process.poll() is None and answers(made.urls[node - 1]), "its RPC")
        yield
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def has_come_to(made: Chain, height: int, url: str) -> None:
    until(lambda: int(made.get("status", url)["sync_info"]["latest_block_height"]) >= height, url)


def test_a_node_that_is_killed_serves_its_blocks_again(tmp_path: Path) -> None:
    """One that serves the store, and without its block store too. The others go on meanwhile."""
    with chain(tmp_path, RequestChain) as made:
        made.grow(6)
        height, name = made.height, max(made.pids)
        node = int(name[1:])
        url = made.urls[node - 1]
        has_come_to(made, height, url)
        asked = [f"{route}?height={height}" for route in ("block", "block_results", "validators", "consensus_params")]
        before = [made.get(route, url) for route in asked]
        os.kill(made.pids[name], signal.SIGKILL)
        assert made.up.event("node_ended")["name"] == name
        made.urls[0] = made.urls[node % 4]  # of another node
        for files in ((), (FILE_NAME, INDEX_FILE)):
            last = made.put(f"without={len(files)}")
            for file in [file for each in files for file in (tmp_path / "data" / name).glob(each + "*")]:
                file.unlink()
            with node_again(made, node):
                has_come_to(made, last, url)
                assert [made.get(route, url) for route in asked] == before
                assert made.get("status", url)["sync_info"]["earliest_block_height"] == "1"
                assert made.light_block(last, url).header.height == last
