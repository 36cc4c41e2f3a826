"""A kvstore that knows nothing of this project: over pyABCI 0.1, in a process of its own. Argument: the port.

pyABCI has no app that can be read; this adds to its SimpleApp what a kvstore is. Its state is in memory. It ends when
nobody is connected any more, so nobody must try whether it is there: it prints a line when it is.
"""

import asyncio
import sys

from abci.samples import SimpleApp
from abci.server import Server
from abci.types import (
    ExecTxResult,
    RequestCheckTx,
    RequestCommit,
    RequestFinalizeBlock,
    RequestInfo,
    RequestInitChain,
    RequestQuery,
    ResponseCheckTx,
    ResponseCommit,
    ResponseFinalizeBlock,
    ResponseInfo,
    ResponseInitChain,
    ResponseQuery,
)


class KV(SimpleApp):
    """`key=value` sets a key. The app's hash is how many pairs were set."""

    def __init__(self) -> None:
        super().__init__(lambda height: None)
        self.pairs: dict[bytes, bytes] = {}
        self.new: list[bytes] = []
        self.count = self.height = self.new_height = 0

    def app_hash(self) -> bytes:
        return b"%08d" % self.count

    async def info(self, req: RequestInfo) -> ResponseInfo:
        app_hash = self.app_hash() if self.height else b""
        return ResponseInfo(
            data="kv", version="1", app_version=1, last_block_height=self.height, last_block_app_hash=app_hash
        )

    async def init_chain(self, req: RequestInitChain) -> ResponseInitChain:
        return ResponseInitChain(app_hash=self.app_hash())

    async def check_tx(self, req: RequestCheckTx) -> ResponseCheckTx:
        return ResponseCheckTx(code=0 if req.tx.count(b"=") == 1 else 2, gas_wanted=1)

    async def finalize_block(self, req: RequestFinalizeBlock) -> ResponseFinalizeBlock:
        self.new, self.new_height = list(req.txs), req.height
        self.count += len(self.new)
        return ResponseFinalizeBlock(tx_results=[ExecTxResult(code=0) for _ in self.new], app_hash=self.app_hash())

    async def commit(self, req: RequestCommit) -> ResponseCommit:
        self.pairs.update(tx.split(b"=") for tx in self.new)
        self.new, self.height = [], self.new_height
        return ResponseCommit()

    async def query(self, req: RequestQuery) -> ResponseQuery:
        return ResponseQuery(code=0, key=req.data, value=self.pairs.get(req.data, b""), height=self.height)


async def main() -> None:
    server = Server(KV())
    await server.start("127.0.0.1", int(sys.argv[1]))
    print("ready", flush=True)
    await server


if __name__ == "__main__":
    asyncio.run(main())
