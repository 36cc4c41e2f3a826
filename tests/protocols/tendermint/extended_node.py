"""One node of four with equal power whose app extends votes, and what the others would say to it, rightly signed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quorate.kernel import Job
from quorate.ledger.comet.abci import request_messages as requests
from quorate.ledger.comet.commits import COMMIT
from quorate.protocols.tendermint.app_messages import AskApp
from quorate.protocols.tendermint.commits import commit_of
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.extensions import extensions_of
from quorate.protocols.tendermint.messages import (
    ExtendedDecision,
    ExtendedPrecommit,
    Here,
    Precommit,
    Prevote,
    Proposal,
    vote_said,
)
from quorate.protocols.tendermint.named_blocks import NamedBlock, name_block
from quorate.protocols.tendermint.signed_bytes import extension_bytes, proposal_bytes, vote_bytes
from quorate.trials.abci.extending import Attaching

from tests.protocols.tendermint.one_app_node import OneAppNode
from tests.protocols.tendermint.one_node import CONFIG, ME, OTHERS, SCHEME, WALL_NS, written


def asks(kind: type) -> Callable[[Job], bool]:
    """Jobs that ask the app for this."""
    return lambda job: isinstance(job.work, AskApp) and isinstance(job.work.request, kind)


class ExtendedNode(OneAppNode):
    """At a height that it has not begun, until ``locks`` or a decision comes."""

    def __init__(self, app: Any = None, records: Any = (), hold: Any = lambda job: False, config: Any = CONFIG) -> None:
        super().__init__(app or Attaching(), records, hold, config)
        for other in OTHERS:
            self.hears(other, Here(1))  # so nobody is far ahead, and the node begins

    @property
    def height(self) -> int:
        return self.core.current.next

    def block(self, *txs: bytes, by: int | None = None) -> NamedBlock:
        """The next one, of the proposer of round 0 or another."""
        by = self.core.committee.proposer(0) if by is None else by
        return name_block(self.core.chain.draft(by, txs))

    def time_ns(self, its: NamedBlock | None) -> int:
        return self.core.chain.vote_ns(WALL_NS, its and its.block)

    def proposal(self, its: NamedBlock, round: int = 0) -> tuple[int, Proposal]:
        node = self.core.committee.proposer(round)
        time_ns, chain = self.time_ns(its), self.core.chain
        data = proposal_bytes(chain.id, self.height, round, its.name, -1, time_ns)
        made = Proposal(self.height, round, its.data, -1, None, time_ns, SCHEME.keys(node).sign_canonical(data))
        return node, made

    def vote(self, make: Any, node: int, its: NamedBlock | None, round: int = 0) -> Any:
        """Without an extension."""
        step, value = Step.PRECOMMIT if make is Precommit else Step.PREVOTE, its and its.name
        time_ns = self.time_ns(its)
        data = vote_bytes(self.core.chain.id, step, self.height, round, value, time_ns)
        return make(self.height, round, value, node, time_ns, SCHEME.keys(node).sign_canonical(data))

    def extended(
        self,
        node: int,
        its: NamedBlock | None,
        extension: bytes | None = None,
        round: int = 0,
        signer: int | None = None,
    ) -> ExtendedPrecommit:
        """``extension``: if it is to be another than a right one; ``signer``: who signed it, if not the node."""
        plain = self.vote(Precommit, node, its, round)
        extension = b"%d/%08x" % (self.height, 1000 + node) if extension is None else extension
        data = extension_bytes(self.core.chain.id, self.height, round, extension)
        keys = SCHEME.keys(node if signer is None else signer)
        fields = (plain.height, plain.round, plain.value, plain.node, plain.time_ns, plain.signature)
        return ExtendedPrecommit(*fields, extension, keys.sign_canonical(data))

    def decision(self, its: NamedBlock, extension: bytes | None = None) -> ExtendedDecision:
        """By the others' precommits of round 0, with this extension or right ones."""
        committee = self.core.committee
        votes = [vote_said(self.extended(node, its, extension)) for node in OTHERS]
        commit = commit_of(committee, self.height, 0, its, votes)
        extensions = extensions_of(committee, commit, votes)
        return ExtendedDecision(self.height, its.data, COMMIT.encode(commit), extensions)

    def locks(self, its: NamedBlock) -> None:
        """It hears of the block, and of a quorum that prevotes it in round 0, so it precommits."""
        node, proposal = self.proposal(its)
        self.hears(node, proposal)
        for node in OTHERS[:2]:
            self.hears(node, self.vote(Prevote, node, its))

    def sent(self, kind: type = Precommit) -> list[Any]:
        """Its own votes of this kind, as they left."""
        sends = [send.message for turn in self.turns for send in turn.sends]
        return [m for m in sends if isinstance(m, kind) and m.node == ME]

    def kept(self, kind: type) -> list[Any]:
        return [record for turn in self.turns for record in written(turn) if isinstance(record, kind)]

    def asked(self, kind: type) -> list[Any]:
        return [call for call in self.calls if isinstance(call, kind)]

    def blamed(self) -> list[tuple[int, str]]:
        return [(blame.node, blame.why) for turn in self.turns for blame in turn.blames]

    def reborn(self, records: Any = None) -> ExtendedNode:
        """The next life, after a crash: what it has written, or other records, and an app that begins anew."""
        assert isinstance(self.app, Attaching)
        return ExtendedNode(Attaching(numbers=self.app.numbers), records or list(self.core.checkpoint()))


VERIFY = requests.RequestVerifyVoteExtension
EXTEND = requests.RequestExtendVote
PREPARE = requests.RequestPrepareProposal
