"""ChainApp: what stands behind a chain's blocks, as the core asks it.

The questions are those of ABCI 0.38: what is to be in a block (prepare), may this block be (process), what comes of the
block that is decided (finalize), keep that (commit). Each has one answer, which waits in ``take`` for the core to fetch
it at the end of a step: of this step, or of a later one, if the app had to ask somebody else by a job (``Env.work``).
Between a finalize and the answer to the commit after it, the core asks nothing else and decides nothing.

Everything that an app says of a decided block must be the same at all nodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import msgspec

from quorate.kernel import Env, Key
from quorate.ledger.comet.commits import Commit
from quorate.ledger.comet.evidence import Misconduct
from quorate.ledger.comet.params import ConsensusParams
from quorate.ledger.comet.results import ExecTxResult
from quorate.ledger.comet.times import Timestamp
from quorate.ledger.validators import PowerChange
from quorate.protocols.tendermint.effects import SignedVote
from quorate.protocols.tendermint.messages import TendermintConfig
from quorate.protocols.tendermint.named_blocks import NamedBlock


class Draft(msgspec.Struct, frozen=True):
    """What is known of a block before its transactions are. ``bytes_max``: of those."""

    round: int
    height: int
    time: Timestamp
    proposer_address: bytes
    next_validators_hash: bytes
    last_commit: Commit
    evidence: tuple[Misconduct, ...]
    bytes_max: int


# --- answers ---


class Prepared(msgspec.Struct, frozen=True):
    """The transactions of a new block, for this round."""

    height: int
    round: int
    txs: tuple[bytes, ...]


class Processed(msgspec.Struct, frozen=True):
    """Whether a block may be, by its name."""

    value: bytes
    is_valid: bool


class Finalized(msgspec.Struct, frozen=True):
    """What came of a decided block: one result a transaction, changes of validators and of parameters, and the app's
    hash after it. ``answer``: the same and more in the app's own words, if it is to be kept."""

    results: tuple[ExecTxResult, ...]
    app_hash: bytes
    changes: tuple[PowerChange, ...] = ()
    params: ConsensusParams | None = None
    answer: bytes = b""


class Committed(msgspec.Struct, frozen=True):
    """The app has kept what came of the block of this height, and needs no blocks below ``retain_height`` any more."""

    height: int
    retain_height: int = 0


class Extended(msgspec.Struct, frozen=True):
    """What the app attaches to this node's precommit for a block."""

    height: int
    round: int
    value: bytes
    extension: bytes


class Verified(msgspec.Struct, frozen=True):
    """Whether the app accepts the extension of a node's precommit."""

    height: int
    round: int
    node: int
    is_accepted: bool


class AppReady(msgspec.Struct, frozen=True):
    """The app can be asked about blocks from now on."""


AppAnswer: TypeAlias = Prepared | Processed | Finalized | Committed | Extended | Verified | AppReady


class ChainApp(ABC):
    """Pure, as the core is: it has the core's Env to ask for jobs and to deliver."""

    def __init__(self, env: Env, config: TendermintConfig) -> None:
        self.env = env
        self.config = config
        self._answers: list[AppAnswer] = []
        self.index = 0
        """Of the last transaction of a decided block."""

    def take(self) -> list[AppAnswer]:
        """The answers since this was last asked."""
        answers, self._answers = self._answers, []
        return answers

    def answer(self, answer: AppAnswer) -> None:
        """To be taken."""
        self._answers.append(answer)

    takes_snapshots: ClassVar[bool] = False
    """Whether its state is that of the App of the kernel, which can be written and loaded at a transaction's index."""

    def stand_on(self, index: int, app_hash: bytes) -> None:
        """Its state is the one after so many transactions, which was loaded."""
        raise NotImplementedError("an app that takes no snapshots stands on none")

    @property
    def is_ready(self) -> bool:
        """Whether it can be asked about blocks. Until then no height begins."""
        return True

    @property
    @abstractmethod
    def has_something(self) -> bool:
        """Whether there is anything to propose. Without, no height begins here and no block is asked for."""

    @abstractmethod
    def submit(self, values: Sequence[bytes]) -> None:
        """Transactions of this node's clients."""

    @abstractmethod
    def hear(self, sender: int, txs: Sequence[bytes]) -> None:
        """Transactions that wait at another node. From this node itself: somebody brought them to it alone."""

    @abstractmethod
    def prepare(self, draft: Draft) -> None:
        """What is to be in a block? Answer: Prepared."""

    @abstractmethod
    def process(self, block: NamedBlock) -> None:
        """May this block be? It is the chain's next, as far as the chain says. Answer: Processed."""

    @abstractmethod
    def finalize(self, block: NamedBlock, commit: Commit) -> None:
        """The block is decided: what comes of it? After a restart the same is asked again. Answer: Finalized."""

    @abstractmethod
    def commit(self, height: int, said: Finalized) -> None:
        """Keep what came of it. Answer: Committed."""

    def extend(self, block: NamedBlock, round: int) -> None:
        """What goes with this node's precommit for the block? Answer: Extended. Only an app that enables vote
        extensions is asked this, and the next."""
        raise NotImplementedError("an app that sets no parameters extends no votes")

    def verify(self, height: int, vote: SignedVote) -> None:
        """May another node's precommit count, with what goes with it? Answer: Verified."""
        raise NotImplementedError("an app that sets no parameters extends no votes")

    def done(self, key: Key, result: Any) -> None:  # noqa: B027 (optional)
        """A job ended, of this app or of another."""

    def beat(self) -> None:  # noqa: B027 (optional)
        """Time goes by."""
