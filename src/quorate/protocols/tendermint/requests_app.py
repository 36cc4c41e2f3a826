"""RequestsApp: the service above as a chain's app: its transactions are requests that clients signed.

What a request does, the state machine above says, when it is delivered; here every one has succeeded. The app's hash is
no hash of that state, which nobody has at hand, but a chain of hashes over all transactions that were decided: as the
state machine is deterministic, equal hashes mean equal states. So all that comes of a block is in the block itself
(``requests_outcome``).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, ClassVar, Final

from quorate.kernel import Env, Key
from quorate.ledger.comet.blocks import Block
from quorate.ledger.comet.commits import Commit
from quorate.ledger.comet.results import ExecTxResult
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Decided
from quorate.protocols.tendermint.chain_app import ChainApp, Committed, Draft, Finalized, Prepared, Processed
from quorate.protocols.tendermint.messages import TendermintConfig
from quorate.protocols.tendermint.named_blocks import NamedBlock
from quorate.protocols.tendermint.passing import Passing
from quorate.protocols.tendermint.pending import PendingRequests

DONE: Final = ExecTxResult()


def requests_outcome(block: Block) -> Finalized:
    """What comes of it. Its header has the app's hash before it."""
    header = block.header
    return Finalized((DONE,) * len(block.data.txs), sha256(header.app_hash + header.data_hash).digest())


class RequestsApp(ChainApp):
    """It answers at once, but for requests whose signatures are still to be checked."""

    takes_snapshots = True
    pending_class: ClassVar[type[PendingRequests]] = PendingRequests

    def __init__(self, env: Env, config: TendermintConfig) -> None:
        super().__init__(env, config)
        self.pending = self.pending_class(env, config)
        self.passing = Passing(env, self.pending)

    def stand_on(self, index: int, app_hash: bytes) -> None:
        self.index = index
        self.pending.forget_all()

    @property
    def has_something(self) -> bool:
        return bool(self.pending.waiting)

    def submit(self, values: Sequence[bytes]) -> None:
        self.pending.submit(values)

    def hear(self, sender: int, txs: Sequence[bytes]) -> None:
        if sender == self.env.id:
            self.passing.bring(txs)
        else:
            self.pending.submit(txs, sender)

    def prepare(self, draft: Draft) -> None:
        self.answer(Prepared(draft.height, draft.round, self.pending.next_batch()))

    def process(self, block: NamedBlock) -> None:
        """An empty block is nothing that anybody waits for."""
        txs = block.block.data.txs
        verdict = self.pending.judge(block.name, txs) if txs else False
        if verdict is not None:
            self.answer(Processed(block.name, verdict))

    def finalize(self, block: NamedBlock, commit: Commit) -> None:
        """Deliver the requests. After a restart they are delivered once more."""
        txs, header = block.block.data.txs, block.block.header
        self.pending.decided(txs)
        entries = tuple([Entry(header.height, tx) for tx in txs])
        self.env.deliver(Decided(self.index + 1, entries, commit))
        self.index += len(entries)
        self.answer(requests_outcome(block.block))

    def commit(self, height: int, said: Finalized) -> None:
        self.answer(Committed(height))

    def done(self, key: Key, result: Any) -> None:
        judged = self.pending.done(key, result)
        self.passing.look()
        if judged is not None:
            self.answer(Processed(*judged))

    def beat(self) -> None:
        self.pending.again()
        self.passing.beat()
