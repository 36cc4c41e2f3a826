"""Bugs that are planted where an ABCI app stands behind the chain, each of which the simulator must catch.

Those of the rules are in ``mutants.py``: the rules are the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from msgspec.structs import replace

from quorate.kernel import Env
from quorate.ledger.comet.abci.request_messages import RequestCommit, RequestFinalizeBlock
from quorate.ledger.comet.abci.response_messages import ApplyResult, ResponseApplySnapshotChunk
from quorate.ledger.comet.blocks import Block
from quorate.ledger.comet.commits import Commit
from quorate.ledger.comet.evidence import EvidenceList, Misconduct
from quorate.ledger.comet.validators import CometValidatorSet
from quorate.parts.crypto.keys import Keys
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.app_messages import AskApp
from quorate.protocols.tendermint.chain_app import Finalized
from quorate.protocols.tendermint.chunk_order import ChunkOrder
from quorate.protocols.tendermint.commits import decided_block
from quorate.protocols.tendermint.deciding import Deciding
from quorate.protocols.tendermint.driven_app import DrivenApp
from quorate.protocols.tendermint.effects import SendVote, Step
from quorate.protocols.tendermint.evidence_pool import EvidencePool, PastHeight
from quorate.protocols.tendermint.extended_votes import ExtendedVotes
from quorate.protocols.tendermint.extending import Extending
from quorate.protocols.tendermint.extensions import Extensions, LastExtensions
from quorate.protocols.tendermint.messages import (
    Decision,
    ExtendedPrecommit,
    Prevote,
    Proposal,
    TendermintConfig,
    vote_said,
)
from quorate.protocols.tendermint.named_blocks import NamedBlock
from quorate.protocols.tendermint.open_height import OpenHeight
from quorate.protocols.tendermint.questions import Questions
from quorate.protocols.tendermint.signing import SignState
from quorate.protocols.tendermint.state_sync import Attempt, StateSync
from quorate.sim.mutant import Mutant


class SmallAppChain(AppChain):
    """The healthy one, in which snapshots are taken over, and logs begin anew, after a few heights."""

    LEAP_HEIGHTS = 6
    MARK_HEIGHTS = 2


def planted(**parts: Any) -> type[AppChain]:
    """A chain with sick parts."""
    return type("Planted", (SmallAppChain,), parts)


# --- what the app is told ---


class TwoCommits(DrivenApp):
    """Asks to commit twice."""

    def commit(self, height: int, said: Finalized) -> None:
        """And again."""
        super().commit(height, said)
        self._questions.ask(AskApp(RequestCommit()), height)


class NoInitChain(DrivenApp):
    """Begins no chain."""

    def welcome(self, info: Any) -> None:
        """As one that has all blocks."""
        self._info = info
        self._ready(None)


class Unrecorded(DrivenApp):
    """Has the app commit what it does not keep."""

    def restore(self, record: Any) -> None:
        """Forgotten."""


class ReplaysNothing(DrivenApp):
    """An app that is behind after a crash is not told the blocks that it lacks."""

    def finalize(self, block: NamedBlock, commit: Commit) -> None:
        """What was kept of the app's answer is taken for the app's state."""
        height = block.block.header.height
        if height in self.outcomes:
            self.app_height = max(self.app_height, height)
        super().finalize(block, commit)


class LosesTransactions(DrivenApp):
    """Of a block with several transactions the app is told the first one in place of the last."""

    def finalize(self, block: NamedBlock, commit: Commit) -> None:
        """As many as there are, so that the number of results fits."""
        txs = block.block.data.txs
        data = replace(block.block.data, txs=(*txs[:-1], *txs[:1]))
        super().finalize(replace(block, block=replace(block.block, data=data)), commit)
        self._block = block


class SilentQuestions(Questions):
    """Keeps from the app who misbehaved."""

    def ask(self, work: Any, about: Any = None) -> None:
        """Without that."""
        if isinstance(work, AskApp) and isinstance(work.request, RequestFinalizeBlock):
            work = AskApp(replace(work.request, misbehavior=()))
        super().ask(work, about)


class SilentApp(DrivenApp):
    """With these."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._questions.__class__ = SilentQuestions


# --- evidence ---


class Unremembered(EvidencePool):
    """Forgets what blocks had."""

    def decided(self, block: Block, validators: CometValidatorSet) -> None:
        """As if it had none."""
        super().decided(replace(block, evidence=EvidenceList()), validators)


class Believing(EvidencePool):
    """Takes all evidence for true."""

    def _verify_piece(self, piece: Misconduct, past: PastHeight, as_of: int) -> None:
        """It is."""


# --- vote extensions ---


class Undurable(SignState):
    """Asks the app again after a crash."""

    def restore(self, record: Proposal | Prevote) -> None:
        """Without extensions."""
        if not isinstance(record, ExtendedPrecommit):
            super().restore(record)


class Unsigned(ExtendedVotes):
    """Believes that extensions are signed."""

    def add(self, m: ExtendedPrecommit) -> str | None:
        """Whatever the signature."""
        keys, self._keys = self._keys, _Trusting(self._keys)  # type: ignore[assignment]
        try:
            return super().add(m)
        finally:
            self._keys = keys


class _Trusting:
    def __init__(self, keys: Keys) -> None:
        self.node = keys.node

    def verify_canonical(self, *args: Any) -> bool:
        return True


class Unverified(ExtendedVotes):
    """Asks the app about nothing."""

    def add(self, m: ExtendedPrecommit) -> str | None:
        """It counts at once."""
        why = super().add(m)
        self._held.clear()
        self._waiting.clear()
        if why is None:
            self._rules.on_said(vote_said(m))
        return why


class Lax(ExtendedVotes):
    """Counts what the app rejects."""

    def judged(self, node: int, round: int, is_accepted: bool) -> None:
        """As accepted."""
        super().judged(node, round, True)


class ExtendsNil(Extending):
    """Attaches something to a precommit for nil."""

    def takes(self, effect: SendVote) -> bool:
        """All precommits."""
        return effect.step is Step.PRECOMMIT and self._chain.extends(self._current.open.number)

    def on_send_vote(self, effect: SendVote) -> None:
        """The app is not asked."""
        if effect.value is not None:
            super().on_send_vote(effect)
        elif (vote := self._signed.extended(effect.round, None, self._env.wall_ns, b"0/00000000")) is not None:  # type: ignore[arg-type]
            self._env.broadcast(vote)


class Credulous(Deciding):
    """Takes the extensions of a decision as they come."""

    def _proven(self, m: Decision) -> NamedBlock | None:
        try:
            return decided_block(self._chain, m.block, m.commit)
        except ValueError:
            return None


class Plain(Deciding):
    """Keeps decisions without extensions."""

    def _decide(self, decision: Decision, block: NamedBlock) -> None:
        super()._decide(Decision(decision.height, decision.block, decision.commit), block)


class Nothing(LastExtensions):
    """Gives a proposer nothing."""

    def find(self) -> Extensions | None:
        """None."""
        return ()


class GivesNothing(SmallAppChain):
    """With that."""

    def __init__(self, env: Env, config: TendermintConfig = TendermintConfig(), *, keys: Keys) -> None:  # noqa: B008 (frozen)
        super().__init__(env, config, keys=keys)
        self.app.last_extensions = Nothing(self.chain, self.log)


def planted_votes(bug: type[ExtendedVotes]) -> type[AppChain]:
    """A chain that treats others' precommits like this."""
    return planted(open_class=type("PlantedHeight", (OpenHeight,), {"extended_class": bug}))


# --- state sync ---


class NoBlame(StateSync):
    """Senders that the app rejects go on sending."""

    def reject_senders(self, names: Iterable[str]) -> None:
        """Ignored."""


class Backwards(ChunkOrder):
    """The last chunk comes first."""

    @property
    def next(self) -> int | None:
        """From the end."""
        number = super().next
        return None if number is None else self._count - 1 - number


class BackwardSync(StateSync):
    """With that."""

    order_class: ClassVar[type[ChunkOrder]] = Backwards


class NoRetry(StateSync):
    """What the app wants to try again is taken for accepted."""

    def applied(self, attempt: Attempt, sender: int, answer: ResponseApplySnapshotChunk) -> None:
        """As accepted."""
        super().applied(attempt, sender, ResponseApplySnapshotChunk(ApplyResult.ACCEPT))


APP_MUTANTS = (
    Mutant("commits-twice", "the app is asked twice to commit a block", core=planted(app_class=TwoCommits)),
    Mutant("begins-no-chain", "the app is not asked to begin the chain", core=planted(app_class=NoInitChain)),
    Mutant("forgets-outcomes", "what the app made of blocks is not kept", core=planted(app_class=Unrecorded)),
    Mutant("replays-nothing", "an app is not told what it lacks after a crash", core=planted(app_class=ReplaysNothing)),
    Mutant("loses-transactions", "apps miss transactions of blocks", core=planted(app_class=LosesTransactions)),
    Mutant("hides-misbehavior", "apps are not told who misbehaved", core=planted(app_class=SilentApp), lies=True),
    Mutant(
        "forgets-evidence", "a node forgets whom blocks blame", core=planted(evidence_class=Unremembered), lies=True
    ),
    Mutant("believes-evidence", "evidence is not checked", core=planted(evidence_class=Believing), lies=True),
    Mutant("extends-again", "after a crash an app is asked again to extend", core=planted(signing_class=Undurable)),
    Mutant("believes-extensions", "extensions need not be signed", core=planted_votes(Unsigned), lies=True),
    Mutant("verifies-none", "apps are not asked about extensions", core=planted_votes(Unverified), lies=True),
    Mutant("counts-rejected", "precommits count that the app rejects", core=planted_votes(Lax), lies=True),
    Mutant("extends-nil", "precommits for nil are extended", core=planted(extending_class=ExtendsNil)),
    Mutant(
        "believes-proofs", "extensions of decisions are not checked", core=planted(deciding_class=Credulous), lies=True
    ),
    Mutant("keeps-no-extensions", "decisions are kept without extensions", core=planted(deciding_class=Plain)),
    Mutant("gives-no-extensions", "a proposer is given no extensions", core=GivesNothing),
    Mutant("blames-no-sender", "rejected senders of chunks go on", core=planted(sync_class=NoBlame), lies=True),
    Mutant("backwards", "chunks are applied from the last one on", core=planted(sync_class=BackwardSync)),
    Mutant("no-retry", "a chunk that the app rejects is not sent again", core=planted(sync_class=NoRetry), lies=True),
)
