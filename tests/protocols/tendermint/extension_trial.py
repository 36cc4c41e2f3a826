"""Chains whose apps extend votes, in the simulator: an app that says something else each time, and what must hold.

An extension is the height and a number that no app has said before. So it is seen if an app is asked again about what
its node signed before a crash, and if an extension is given to the app of a proposer that no correct app accepts.
"""

from __future__ import annotations

import re
from typing import Any

from msgspec.structs import replace

from quorate.kernel import Core, Turn
from quorate.ledger.comet.abci import request_messages as requests
from quorate.ledger.comet.abci import response_messages as responses
from quorate.ledger.comet.commits import ABSENT, COMMIT, FOR_BLOCK
from quorate.ledger.comet.params import ABCIParams, ConsensusParams
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.extension_liars import EXTENSION_LIARS
from quorate.protocols.tendermint.messages import ExtendedDecision, ExtendedPrecommit, Precommit, Prevote, Proposal
from quorate.protocols.tendermint.signed_bytes import extension_bytes
from quorate.sim.adversary import GENERIC
from quorate.sim.checkers.base import Violation
from quorate.sim.run import RunOutcome, simulate

from tests.protocols.tendermint.app_trial import AppInvariants, AppSubject, Lenient, app_trial

GIVEN = "a proposer is given the extensions of the last votes"
ONE_EXTENSION = "one extension a round"
EXTENDED = "precommits have extensions where they are enabled"
LIES = tuple(liar.name for liar in (*GENERIC, *EXTENSION_LIARS))
NUMBER = re.compile(rb"([0-9]+)/[0-9a-f]{8}")


class Numbers:
    """From 1 on, each once, be the app copied as often as it likes."""

    def __init__(self) -> None:
        self.last = 0

    def take(self) -> int:
        self.last += 1
        return self.last

    def __deepcopy__(self, memo: Any) -> Numbers:
        return self


class Attaching(Lenient):
    """``enabled``: the first height with extensions; ``told_at``: that of the block after which it says so, 0: of the
    genesis."""

    def __init__(self, enabled: int = 1, told_at: int = 0, numbers: Numbers | None = None) -> None:
        super().__init__()
        self.enabled = enabled
        self.told_at = told_at
        self.numbers = numbers or Numbers()

    def init_chain(self, request: requests.RequestInitChain) -> responses.ResponseInitChain:
        response = super().init_chain(request)
        return response if self.told_at else replace(response, consensus_params=self._update)

    def finalize_block(self, request: requests.RequestFinalizeBlock) -> responses.ResponseFinalizeBlock:
        response = super().finalize_block(request)
        is_told = request.height == self.told_at
        return replace(response, consensus_param_updates=self._update) if is_told else response

    @property
    def _update(self) -> ConsensusParams:
        return ConsensusParams(abci=ABCIParams(self.enabled))

    def extend_vote(self, request: requests.RequestExtendVote) -> responses.ResponseExtendVote:
        assert request.height >= self.enabled, "no vote of this height has an extension"
        return responses.ResponseExtendVote(b"%d/%08x" % (request.height, self.numbers.take()))

    def verify_vote_extension(
        self, request: requests.RequestVerifyVoteExtension
    ) -> responses.ResponseVerifyVoteExtension:
        is_good = is_one(request.vote_extension, request.height)
        return responses.ResponseVerifyVoteExtension(
            responses.VerifyStatus.ACCEPT if is_good else responses.VerifyStatus.REJECT
        )

    def prepare_proposal(self, request: requests.RequestPrepareProposal) -> responses.ResponsePrepareProposal:
        self._check(request)
        return super().prepare_proposal(request)

    def _check(self, request: requests.RequestPrepareProposal) -> None:
        """What it is given of the height before: the extensions of a quorum, and no others."""
        height, votes = request.height - 1, request.local_last_commit.votes
        power = 0
        for vote in votes:
            said = (vote.vote_extension, vote.extension_signature)
            if height < self.enabled or vote.block_id_flag != FOR_BLOCK:
                is_right = said == (b"", b"")
            else:
                is_right = is_one(vote.vote_extension, height) and len(vote.extension_signature) == 64
                power += vote.validator.power
            if not is_right:
                text = f"{vote.vote_extension[:40]!r} of a vote of flag {vote.block_id_flag}"
                raise Violation(GIVEN, f"for height {request.height}, {text}")
        if self.enabled <= height and 3 * power <= 2 * sum(vote.validator.power for vote in votes):
            raise Violation(GIVEN, f"for height {request.height}, those of a power of {power}")


def is_one(extension: bytes, height: int) -> bool:
    """Whether a correct app says this at this height."""
    found = NUMBER.fullmatch(extension)
    return found is not None and int(found[1]) == height


class ExtensionInvariants(AppInvariants):
    """Those of a chain with an app; what a node attaches to a vote, it attaches to it in each life, and no liar can
    have a node keep what nobody signed."""

    enabled = 1

    def __init__(self) -> None:
        super().__init__()
        self._attached: dict[tuple[int, int, int], tuple[bytes, bytes]] = {}
        self._checked: dict[int, int] = {}

    def acted(self, node: int, core: Core, turn: Turn) -> None:
        super().acted(node, core, turn)
        for send in (*turn.early, *turn.sends):
            m = send.message
            if isinstance(m, Precommit) and m.node == node:
                self._is_right(node, m)

    def _is_right(self, node: int, m: Precommit) -> None:
        is_extended = isinstance(m, ExtendedPrecommit)
        if is_extended != (m.value is not None and m.height >= self.enabled):
            raise Violation(EXTENDED, f"node {node} sends a {type(m).__name__} at height {m.height}")

    def released(self, node: int, mark: tuple[Proposal | Prevote, ...]) -> None:
        super().released(node, mark)
        for m in mark:
            if isinstance(m, ExtendedPrecommit):
                said = (m.extension, m.extension_signature)
                first = self._attached.setdefault((node, m.height, m.round), said)
                if first != said:
                    raise Violation(ONE_EXTENSION, f"node {node} says {m.extension[:40]!r}, and said {first[0][:40]!r}")

    def started(self, node: int, core: Core) -> None:
        self._checked[node] = 0
        super().started(node, core)

    def stepped(self, node: int, core: Core) -> None:
        super().stepped(node, core)
        assert isinstance(core, AppChain)
        for decision in core.log.after(self._checked[node]):
            self._checked[node] = decision.height
            if isinstance(decision, ExtendedDecision) != (decision.height >= self.enabled):
                raise Violation(EXTENDED, f"node {node} keeps a {type(decision).__name__} of height {decision.height}")
            if isinstance(decision, ExtendedDecision):
                self._is_signed(node, core, decision)

    def _is_signed(self, node: int, core: AppChain, decision: ExtendedDecision) -> None:
        commit, validators = COMMIT.decode(decision.commit), core.committee.validators.validators
        for validator, entry, said in zip(validators, commit.signatures, decision.extensions, strict=True):
            if entry.block_id_flag != FOR_BLOCK:
                assert entry.block_id_flag == ABSENT or said is None
                continue
            is_good = said is not None and is_one(said.extension, decision.height)
            if said is None or not is_good:
                raise Violation(GIVEN, f"node {node} keeps another extension of height {decision.height}")
            data = extension_bytes(core.chain.id, commit.height, commit.round, said.extension)
            if not core.keyring.verify_canonical(validator.pub_key.ed25519, data, said.signature):
                raise Violation(GIVEN, f"node {node} keeps an extension of height {decision.height} that nobody signed")


def run(seed: int, subject: AppSubject | None = None, enabled: int = 1, told_at: int = 0, **options: Any) -> RunOutcome:
    """One seed to its end or to the first violation."""
    numbers = Numbers()
    subject = subject or AppSubject()
    subject.make = lambda: Attaching(enabled, told_at, numbers)
    trial = app_trial(seed, subject, **options)
    invariants = type("Invariants", (ExtensionInvariants,), {"enabled": enabled})
    return simulate(replace(trial, invariants=(invariants,), liars=EXTENSION_LIARS))
