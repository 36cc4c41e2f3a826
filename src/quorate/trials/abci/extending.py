"""Chains whose apps extend votes: an app that says something else each time.

An extension is the height and a number that no app has said before. So it is seen if an app is asked again about what
its node signed before a crash, and if an extension is given to the app of a proposer that no correct app accepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from quorate.ledger.comet.abci import request_messages as requests
from quorate.ledger.comet.abci import response_messages as responses
from quorate.ledger.comet.commits import FOR_BLOCK
from quorate.ledger.comet.params import ABCIParams, ConsensusParams
from quorate.parts.crypto.keys import Scheme
from quorate.protocols.tendermint.app_invariants import GIVEN, ExtensionInvariants, is_extension
from quorate.protocols.tendermint.sync_liars import SYNC_LIARS
from quorate.sim.checkers.base import Checker, Violation
from quorate.trials.abci.subject import AppSubject, Lenient

SIGNATURE_BYTES = 64


class Numbers:
    """From 1 on, each once, be the app copied as often as it likes."""

    def __init__(self) -> None:
        self.last = 0

    def take(self) -> int:
        """The next one."""
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
        is_good = is_extension(request.vote_extension, request.height)
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
                is_right = is_extension(vote.vote_extension, height)
                is_right = is_right and len(vote.extension_signature) == SIGNATURE_BYTES
                power += vote.validator.power
            if not is_right:
                text = f"{vote.vote_extension[:40]!r} of a vote of flag {vote.block_id_flag}"
                raise Violation(GIVEN, f"for height {request.height}, {text}")
        if self.enabled <= height and 3 * power <= 2 * sum(vote.validator.power for vote in votes):
            raise Violation(GIVEN, f"for height {request.height}, those of a power of {power}")


class ExtendingSubject(AppSubject):
    """``enabled`` and ``told_at`` as the app has them."""

    idle = SYNC_LIARS

    def __init__(self, enabled: int = 1, told_at: int = 0) -> None:
        self.numbers = Numbers()
        self.enabled = enabled
        super().__init__(lambda: Attaching(enabled, told_at, self.numbers))

    def checkers(self, protocol: Sequence[Checker], scheme: Scheme | None) -> list[Checker]:
        """And that of extensions."""
        return [*super().checkers(protocol, scheme), ExtensionInvariants(self.enabled)]
