"""AppChain: Tendermint with an ABCI app behind its blocks. The rules are the same; what is said to the app, and kept of
it, ``DrivenApp`` knows.

The log is kept whole: snapshots of such apps are not taken, and a node that is behind is sent every block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from quorate.kernel import AppEnded, Env
from quorate.ledger.comet.abci.response_messages import RESPONSE, ResponseInitChain
from quorate.parts.crypto.keys import Keys
from quorate.protocols.tendermint.app_messages import Begun, BlockApplied, Outcome, Transactions
from quorate.protocols.tendermint.chain_app import ChainApp, Committed, Finalized
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.driven_app import MEND, DrivenApp, Greeted
from quorate.protocols.tendermint.messages import OF_HEIGHTS, RECORDS, TendermintConfig


class AppChain(Tendermint):
    """One node."""

    messages = (*OF_HEIGHTS, Transactions)  # whoever sends a snapshot is hung up on
    records = (*RECORDS, Begun, Outcome)
    app_class: ClassVar[type[ChainApp]] = DrivenApp
    app: DrivenApp

    def __init__(self, env: Env, config: TendermintConfig = TendermintConfig(), *, keys: Keys) -> None:  # noqa: B008 (frozen)
        super().__init__(env, config, keys=keys)
        self.app.know_genesis(self.chain)
        self.begun: Begun | None = None
        """What the app said of the genesis. Durable."""
        self._answers[Greeted] = self._greeted
        self._answers[Finalized] = self._finalized

    def restore(self, record: Any) -> None:
        """One durable record."""
        if isinstance(record, Begun):
            self._begin(record)
        elif isinstance(record, Outcome):
            self.app.restore(record)
        else:
            super().restore(record)

    def checkpoint(self) -> Iterator[Any]:
        """What the app said, before the log."""
        if self.begun is not None:
            yield self.begun
        yield from super().checkpoint()
        for height, answer in self.app.outcomes.items():
            yield Outcome(height, answer)

    def start(self) -> None:
        """The app is greeted; until it has answered, no height begins."""
        super().start()
        self.app.greet()

    def on_transactions(self, sender: int, m: Transactions) -> None:
        """What clients of another node brought it."""
        if not self.current.is_stalled:
            self.app.hear(sender, m.txs)

    def _greeted(self, answer: Greeted) -> None:
        begun = answer.begun
        if begun is not None and self.begun is None:
            self.env.persist(begun)
            self._begin(begun)
        elif begun is not None and begun != self.begun:
            raise AppEnded(
                f"the app began this chain once more, and says of its genesis what it did not say at first. {MEND}"
            )
        self.applying.resume()
        self._go_on()

    def _begin(self, begun: Begun) -> None:
        """The chain has no block yet."""
        said = RESPONSE.decode(begun.answer)
        assert isinstance(said, ResponseInitChain), "what was recorded is an answer to InitChain"
        powers = {update.pub_key.address: update.power for update in said.validators}
        try:
            self.chain.begin(begun.app_version, said.app_hash, powers, said.consensus_params)
        except ValueError as error:
            raise AppEnded(f"what the app answers to InitChain cannot be: {error}. {MEND}") from None
        self.begun = begun
        self.evidence.params = self.chain.params.evidence

    def _finalized(self, answer: Finalized) -> None:
        """What is wrong with it is found before anything of it is kept."""
        try:
            self.chain.check(answer)
        except ValueError as error:
            height = self.chain.state.next_height
            raise AppEnded(
                f"what the app answers to FinalizeBlock of height {height} cannot be: {error}. {MEND}"
            ) from None
        self.applying.finalized(answer)

    def _committed(self, answer: Committed) -> None:
        (decision,) = self.log.after(answer.height - 1)[:1]
        self.env.deliver(
            BlockApplied(
                height=answer.height,
                block=decision.block,
                commit=decision.commit,
                answer=self.app.outcomes[answer.height],
                validators=self.committee.validators,
                params=self.chain.params,
                retain_height=answer.retain_height,
            )
        )
        self.applying.committed(answer)
        self.evidence.params = self.chain.params.evidence
        self._go_on()
