"""Parts of Tendermint without a Tendermint: each made with its stated inputs when a test asks for it, on a real Env.

The app is one that answers by jobs, so a question to it can be seen.
"""

from functools import cached_property
from typing import Any

from quorate.kernel import Env
from quorate.protocols.tendermint.applying import Applying
from quorate.protocols.tendermint.blockchain import EVIDENCE_PARAMS, Chain
from quorate.protocols.tendermint.casting import Casting
from quorate.protocols.tendermint.checkpoints import ChainCheckpoints
from quorate.protocols.tendermint.committee import Committee
from quorate.protocols.tendermint.current_height import CurrentHeight
from quorate.protocols.tendermint.deciding import Deciding
from quorate.protocols.tendermint.evidence_pool import EvidencePool
from quorate.protocols.tendermint.hearing import Hearing
from quorate.protocols.tendermint.height import Height
from quorate.protocols.tendermint.judging import Judging
from quorate.protocols.tendermint.lock_state import LockState
from quorate.protocols.tendermint.log import DecidedLog
from quorate.protocols.tendermint.messages import Proposal
from quorate.protocols.tendermint.proposing import Proposing
from quorate.protocols.tendermint.repeating import Repeating
from quorate.protocols.tendermint.signing import SignState
from quorate.protocols.tendermint.step_timeouts import StepTimeouts
from quorate.protocols.tendermint.transfer import ChainTransfer

from tests.protocols import alone as bench
from tests.protocols.tendermint.jobs_app import JobsApp
from tests.protocols.tendermint.one_node import ALL, CHAIN_ID, CONFIG, KEYRING, ME, SCHEME


class Alone(bench.Alone[Env]):
    """The state of one node before height 1, and whichever parts a test asks for."""

    def __init__(self, node: int = ME) -> None:
        super().__init__(lambda env: env, node, ALL)
        env = self.env = self.part
        keys, verify = SCHEME.keys(node), KEYRING.verify_canonical
        self.chain = Chain(CHAIN_ID, Committee(ALL, (), KEYRING), 0, verify)
        self.evidence = EvidencePool(CHAIN_ID, EVIDENCE_PARAMS, verify)
        self.app = JobsApp(env, CONFIG)
        self.log = DecidedLog(env, CONFIG.batch_bytes_max)
        self.checkpoints = ChainCheckpoints(env, CONFIG, keys, self.chain, self.log)
        self.signed = SignState(env, keys, CHAIN_ID)
        self.locks = LockState(env)
        self.current = CurrentHeight(keys, self.chain, self.signed, self.locks)
        self.current.open_next()

    @property
    def rules(self) -> Height:
        """Of the open height."""
        return self.current.open.rules

    def hears(self, sender: int, m: Proposal) -> None:
        """The open height has this proposal, so that its block is known."""
        self.do(self.current.open.on_proposal, sender, m)
        assert self.returned is None

    def jobs(self, turn: Any) -> list[Any]:
        """What is asked for."""
        return [job.work for job in turn.jobs]

    # --- the parts ---

    @cached_property
    def applying(self) -> Applying:
        return Applying(self.env, self.app, self.chain, self.evidence, self.checkpoints)

    @cached_property
    def transfer(self) -> ChainTransfer:
        return ChainTransfer(self.env, self.checkpoints)

    @cached_property
    def hearing(self) -> Hearing:
        return Hearing(self.env, self.current, self.applying, self.evidence)

    @cached_property
    def proposing(self) -> Proposing:
        return Proposing(self.env, self.current, self.chain, self.evidence, self.app, self.signed, self.locks)

    @cached_property
    def judging(self) -> Judging:
        return Judging(self.current, self.chain, self.evidence, self.app)

    @cached_property
    def casting(self) -> Casting:
        return Casting(self.env, self.current, self.chain, self.signed, self.locks)

    @cached_property
    def timeouts(self) -> StepTimeouts:
        return StepTimeouts(self.env, CONFIG, self.current)

    @cached_property
    def deciding(self) -> Deciding:
        return Deciding(
            *(self.env, self.current, self.chain, self.log),
            *(self.checkpoints, self.applying, self.proposing, self.timeouts),
        )

    @cached_property
    def repeating(self) -> Repeating:
        return Repeating(
            *(self.env, self.current, self.signed, self.log),
            *(self.app, self.transfer, self.checkpoints),
        )
