"""Parts of PBFT without a Pbft: each made with its stated inputs when a test asks for it, on a real Env."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from quorate.kernel import Env, Job, Turn
from quorate.parts.crypto.keys import Keyring, VerifyBatch
from quorate.protocols.pbft import PbftConfig
from quorate.protocols.pbft.catch_up import CatchUp
from quorate.protocols.pbft.checkpoints import Checkpoints
from quorate.protocols.pbft.checks import SignatureChecks
from quorate.protocols.pbft.execution import Execution
from quorate.protocols.pbft.fetching import Fetching
from quorate.protocols.pbft.group import Group
from quorate.protocols.pbft.history import History
from quorate.protocols.pbft.holding import Holding
from quorate.protocols.pbft.images import Images
from quorate.protocols.pbft.members import EpochMembers
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import ViewChange, digest_of
from quorate.protocols.pbft.new_views import NewViews
from quorate.protocols.pbft.normal import NormalCase
from quorate.protocols.pbft.others import Others
from quorate.protocols.pbft.proofs import ProofChecks
from quorate.protocols.pbft.reads import WaitingReads
from quorate.protocols.pbft.retransmission import Retransmission
from quorate.protocols.pbft.transfer import ImageTransfer
from quorate.protocols.pbft.view import CurrentView
from quorate.protocols.pbft.view_changes import ViewChanges
from quorate.protocols.pbft.waiting import WaitingRequests
from quorate.protocols.pbft.watch import PrimaryWatch

from tests.protocols import alone as bench
from tests.protocols.pbft.pbft_nodes import CONFIG, FOUR, SCHEME, merge

KEYRING = SCHEME.keyring()


class Alone(bench.Alone[Env]):
    """The state of node 2, a backup of view 0 among 1 to 4, and whichever parts a test asks for."""

    def __init__(self, node: int = 2, config: PbftConfig = CONFIG, peers: tuple[int, ...] = FOUR) -> None:
        super().__init__(lambda env: env, node, peers)
        self.env = self.part
        self.config = config
        self.view = CurrentView(self.env, config, Group(FOUR, SCHEME.keys(node)))
        self.log = MessageLog(self.env, config)
        self.history = History(self.env, config.window)
        self.others = Others(self.env)
        self.left: list[int] = []
        """The views that the normal case asked for."""

    def execute(self, *batches: tuple[bytes, ...]) -> None:
        """Have these as history, without a part that executes."""
        for batch in batches:
            digest = digest_of(batch)
            self.log.batches[digest] = batch
            self.history.advance(digest, len(batch))

    def prove(self, call: Callable[..., Any], *args: Any) -> Turn:
        """As ``do``, and then the signatures that this has checked; the Turn without these jobs."""
        turn = self.do(call, *args)
        while checks := [job for job in turn.jobs if isinstance(job.work, VerifyBatch)]:
            more = self.do(lambda jobs=checks: [self.proven(job) for job in jobs])
            turn.jobs = [job for job in turn.jobs if job not in checks]
            merge(turn, more)
        return turn

    def proven(self, job: Job, keyring: Keyring = KEYRING) -> None:
        """A job of ``proofs`` has ended, which was done with these keys."""
        proven = self.proofs.done(job.key[1], keyring.verify_batch(job.work))
        if proven is not None and isinstance(proven.message, ViewChange):
            self.view_changes.checked(*proven)
        elif proven is not None:
            self.new_views.checked(*proven[1:])

    # --- the parts ---

    @cached_property
    def checks(self) -> SignatureChecks:
        return SignatureChecks(self.env)

    @cached_property
    def waiting(self) -> WaitingRequests:
        return WaitingRequests(self.env, self.others, self.config, self.view, self.log, self.history, self.checks)

    @cached_property
    def watch(self) -> PrimaryWatch:
        return PrimaryWatch(self.env, self.config, self.view, self.log, self.history, self.waiting)

    @cached_property
    def normal(self) -> NormalCase:
        return NormalCase(
            *(self.env, self.others, self.config, self.view, self.log, self.history),
            *(self.checks, self.waiting, self.left.append),
        )

    @cached_property
    def members(self) -> EpochMembers:
        return EpochMembers(self.env, self.config, FOUR, self.view, self.log, self.history)

    @cached_property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(
            *(self.env, self.others, self.config, self.view, self.log, self.history),
            *(self.members, self.normal),
        )

    @cached_property
    def holding(self) -> Holding:
        return Holding(self.env, self.view)

    @cached_property
    def images(self) -> Images:
        return Images(self.env, self.config, self.view, self.log, self.history, self.holding)

    @cached_property
    def fetching(self) -> Fetching:
        return Fetching(self.env, self.others, self.config, self.view, self.log)

    @cached_property
    def execution(self) -> Execution:
        return Execution(
            *(self.env, self.config, self.view, self.log, self.history),
            *(self.waiting, self.members, self.images, self.fetching, self.checkpoints),
        )

    @cached_property
    def reads(self) -> WaitingReads:
        return WaitingReads(self.env, self.view, self.log, self.history)

    @cached_property
    def proofs(self) -> ProofChecks:
        return ProofChecks(self.env)

    @cached_property
    def new_views(self) -> NewViews:
        return NewViews(
            *(self.env, self.others, self.config, self.view, self.log),
            *(self.waiting, self.normal, self.checkpoints, self.fetching, self.reads),
            self.proofs,
        )

    @cached_property
    def view_changes(self) -> ViewChanges:
        return ViewChanges(
            *(self.env, self.others, self.config, self.view, self.log, self.history),
            *(self.watch, self.new_views, self.proofs),
        )

    @cached_property
    def transfer(self) -> ImageTransfer:
        return ImageTransfer(
            *(self.env, self.others, self.config, FOUR, self.view, self.history),
            *(self.execution, self.holding),
        )

    @cached_property
    def catch_up(self) -> CatchUp:
        return CatchUp(
            *(self.env, self.others, self.view, self.log, self.history),
            *(self.checkpoints, self.fetching, self.transfer, self.images, self.holding),
        )

    @cached_property
    def retransmission(self) -> Retransmission:
        return Retransmission(
            *(self.env, self.others, self.config, self.view, self.log, self.history),
            *(self.waiting, self.normal, self.checkpoints, self.transfer, self.catch_up, self.holding),
        )
