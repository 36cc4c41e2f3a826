"""Four nodes whose Python apps, behind sockets, extend votes: from vote to the next proposer, and over restarts."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from quorate import abci
from quorate.ledger.comet.votes import PRECOMMIT, Vote, extension_sign_bytes
from quorate.machines.abci.kvstore import KVStoreApp
from quorate.parts.crypto.zip215 import verify_zip215
from quorate.runtime.endpoints import Endpoint
from quorate.service.abci.app_server import AppServer

from tests.runtime.servers import run, until
from tests.service.chain_servers import ChainServers, chain_servers

ENABLED = 3


class Oracle(KVStoreApp):
    """Each node attaches what it alone can know, here its number; the proposer learns of all."""

    def __init__(self, node: int) -> None:
        super().__init__()
        self.node = node
        self.seen: dict[int, abci.ExtendedCommitInfo] = {}
        """By height, what was given to PrepareProposal of the next one."""
        self.verified: list[bytes] = []

    def finalize_block(self, request: abci.RequestFinalizeBlock) -> abci.ResponseFinalizeBlock:
        said = super().finalize_block(request)
        if request.height != 1:
            return said
        params = abci.ConsensusParams(abci=abci.ABCIParams(ENABLED))
        return abci.ResponseFinalizeBlock(
            tx_results=said.tx_results, app_hash=said.app_hash, consensus_param_updates=params
        )

    def extend_vote(self, request: abci.RequestExtendVote) -> abci.ResponseExtendVote:
        return abci.ResponseExtendVote(b"%d at %d" % (self.node, request.height))

    def verify_vote_extension(self, request: abci.RequestVerifyVoteExtension) -> abci.ResponseVerifyVoteExtension:
        self.verified.append(request.vote_extension)
        is_good = request.vote_extension.endswith(b" at %d" % request.height)
        return abci.ResponseVerifyVoteExtension(abci.VerifyStatus.ACCEPT if is_good else abci.VerifyStatus.REJECT)

    def prepare_proposal(self, request: abci.RequestPrepareProposal) -> abci.ResponsePrepareProposal:
        self.seen[request.height - 1] = request.local_last_commit
        return super().prepare_proposal(request)


async def serve(stack: AsyncExitStack, folder: Path, node: int) -> tuple[AppServer, Oracle]:
    app = Oracle(node)
    server = AppServer(app, Endpoint("", 0, str(folder / f"app{node}.sock")))
    await server.start()
    stack.push_async_callback(server.stop)
    return server, app


async def brings(made: ChainServers, node: int, tx: bytes) -> None:
    """Two blocks more: the transaction's, and that of its hash."""
    height = made.reader(node).latest_height()
    await made.reader(node).submit_tx(tx)
    await made.level(height + 2)


async def check(made: ChainServers, apps: dict[int, Oracle]) -> list[int]:
    """What proposers were given; the heights of which they were given something."""
    found = []
    for app in apps.values():
        for height, commit in app.seen.items():
            stored = await made.reader(next(iter(made.running))).stored(max(height, 1))
            assert stored is not None
            keys = {v.address: v.pub_key.ed25519 for v in stored.validators.validators}
            given = [vote for vote in commit.votes if vote.vote_extension]
            if height < ENABLED:
                assert given == []
                continue
            assert len(given) >= 3
            found.append(height)
            for vote in given:
                data = extension_sign_bytes(
                    stored.block.header.chain_id,
                    Vote(PRECOMMIT, height, commit.round, extension=vote.vote_extension),
                )
                assert verify_zip215(keys[vote.validator.address], data, vote.extension_signature)
                assert vote.vote_extension.endswith(b" at %d" % height)
    return found


def test_extensions_from_votes_to_proposers_over_sockets_and_restarts(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            servers, apps = {}, {}
            for node in (1, 2, 3, 4):
                servers[node], apps[node] = await serve(stack, tmp_path, node)
            made = await stack.enter_async_context(chain_servers(tmp_path, app=f"unix://{tmp_path}/app{{node}}.sock"))
            await made.level(1)
            await brings(made, 1, b"a=1")
            await brings(made, 2, b"b=1")
            assert len(await check(made, apps)) >= 2
            assert all(app.verified for app in apps.values())
            assert not any(said.startswith(b"%d " % app.node) for app in apps.values() for said in app.verified)
            await made.crash(4)
            await brings(made, 3, b"c=1")
            await made.stop()
            for node, server in servers.items():
                await server.stop()
                servers[node], apps[node] = await serve(stack, tmp_path, node)  # which know nothing
            await made.start()  # 4 is behind, and is told of decisions
            top = max(made.reader(node).latest_height() for node in made.ids)
            await made.level(top)
            for i in range(4):
                await brings(made, 4, b"d%d=1" % i)
            assert max(await check(made, apps)) >= top
            await until(lambda: all(app.seen for app in apps.values()))

    run(main())
