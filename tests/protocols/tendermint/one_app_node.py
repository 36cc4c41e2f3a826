"""One node of a chain with an ABCI app, among four. It decides alone, as it has almost all of the power, and proposes
at every height that tests reach.

Its app answers each job at once, through a grammar checker, unless a test says otherwise.
"""

from collections.abc import Callable, Sequence
from typing import Any

from quorate.kernel import Done, Job, Turn
from quorate.ledger.comet.abci.grammar import GrammarChecker
from quorate.ledger.comet.abci.request_messages import Request, RequestCheckTx
from quorate.ledger.comet.blocks import BLOCK, Block
from quorate.machines.abci.application import ABCIApp
from quorate.machines.abci.kvstore import KVStoreApp
from quorate.parts.crypto.keys import VerifyBatch
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.app_messages import AskApp, BlockApplied, CheckTxs, TxChecked
from quorate.trials.abci.asked_app import answer_of

from tests.protocols.tendermint.one_node import CONFIG, ME, OneNode

ALONE = CONFIG.but(powers=tuple(1000 if node == ME else 1 for node in range(4)))


class OneAppNode:
    """``calls`` are what the app was asked in this life; ``hold``: jobs for which it is true stay unanswered."""

    def __init__(
        self,
        app: ABCIApp | None = None,
        records: Sequence[Any] = (),
        hold: Callable[[Job], bool] = lambda job: False,
        config: Any = ALONE,
        core: type[AppChain] = AppChain,
        node: int = ME,
    ) -> None:
        self.app = app or KVStoreApp()
        self.hold = hold
        self.held: list[Job] = []
        self.calls: list[Request] = []
        self.turns: list[Turn] = []
        self.outputs: list[Any] = []
        self.grammar = GrammarChecker()
        self.node = OneNode(records, node, config, core)
        self._run(self.node.first)

    @property
    def core(self) -> AppChain:
        assert isinstance(self.node.core, AppChain)
        return self.node.core

    @property
    def blocks(self) -> list[Block]:
        return [BLOCK.decode(decision.block) for decision in self.core.log.decisions]

    @property
    def applied(self) -> list[BlockApplied]:
        return [output for output in self.outputs if isinstance(output, BlockApplied)]

    @property
    def checked(self) -> list[TxChecked]:
        return [output for output in self.outputs if isinstance(output, TxChecked)]

    def submits(self, *txs: bytes) -> None:
        self._run(self.node.submits(*txs))

    def hears(self, sender: int, message: Any) -> Turn:
        turn = self.node.hears((sender, message))
        self._run(turn)
        return turn

    def beats(self) -> Turn:
        turn = self.node.fires("beat")
        self._run(turn)
        return turn

    def answers(self, job: Job, result: Any) -> None:
        self._run(self.node.step(Done(job.key, result, job.path)))

    def release(self) -> None:
        """Answer all that was held."""
        self.hold = lambda job: False
        held, self.held = self.held, []
        for job in held:
            self.answers(job, self.answer(job))

    def answer(self, job: Job) -> Any:
        work = job.work
        self.calls += [work.request] if isinstance(work, AskApp) else [RequestCheckTx(tx) for tx in work.txs]
        return answer_of(self.app, self.grammar, work)

    def names(self) -> list[str]:
        """Of the calls, without CheckTx."""
        return [type(call).__name__.removeprefix("Request") for call in self.calls if type(call) is not RequestCheckTx]

    def again(self, app: ABCIApp | None = None, **options: Any) -> "OneAppNode":
        """The next life, with this app or the same."""
        return OneAppNode(app or self.app, list(self.core.checkpoint()), **options)

    def _run(self, turn: Turn) -> None:
        """Until nothing is under way."""
        waiting = [turn]
        while waiting:
            turn = waiting.pop(0)
            self.turns.append(turn)
            up = [*turn.at_once, *turn.outputs, *turn.jobs]
            self.outputs += [value for value in up if not isinstance(value, Job)]
            for job in [value for value in up if isinstance(value, Job)]:
                assert not isinstance(job.work, VerifyBatch)
                assert isinstance(job.work, AskApp | CheckTxs)
                if self.hold(job):
                    self.held.append(job)
                else:
                    waiting.append(self.node.step(Done(job.key, self.answer(job), job.path)))
