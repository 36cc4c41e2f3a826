"""How nodes lie in Tendermint, beside what any node may do; and how they sign it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from quorate.kernel import Send
from quorate.parts.crypto.keys import Keys
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.tendermint.messages import (
    PREVOTE,
    PROPOSAL,
    Prevote,
    Proposal,
    batch_id,
    proposal_statement,
    step_of,
    vote_context,
    vote_statement,
)
from quorate.sim.adversary.liar import Liar, Means


def resign_tendermint(keys: Keys | None, m: Any) -> Any:
    """A vote or a proposal with this node's signature of what it says now; the rest carries none of its own."""
    assert keys is not None
    if isinstance(m, Prevote):
        statement = vote_statement(m.height, m.round, m.value)
        return replace(m, node=keys.node, signature=keys.sign(vote_context(step_of(m)), statement))
    if isinstance(m, Proposal):
        statement = proposal_statement(m.height, m.round, batch_id(m.values), m.valid_round)
        return replace(m, signature=keys.sign(PROPOSAL, statement))
    return m


class MakesUpRequests(Liar):
    """As a proposer it proposes what no client has asked for."""

    name = "inventing"
    summary = "proposes requests that no client signed"

    def tell(self, send: Send) -> Iterable[Send]:
        """The same invented batch to all."""
        m = send.message
        if isinstance(m, Proposal) and self.means.chance(0.5):
            self.means.count(self.name)
            values = tuple([value[:-1] + bytes([value[-1] ^ 1]) for value in m.values])
            m = replace(m, values=values, valid_round=-1, proof=None)
            send = Send(send.to, send.path, self.means.resign(m))
        return (send,)


class Splitting(Liar):
    """Votes for a value at some nodes and for nil at the others, so that few see a quorum, and others none."""

    name = "splitting"
    summary = "shows some nodes its vote for a value, and others one for nil"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.2, 1.0)

    def tell(self, send: Send) -> Iterable[Send]:
        """Two votes of one round, each for a part of the nodes."""
        m, means = send.message, self.means
        if not isinstance(m, Prevote) or m.value is None or not means.chance(self.rate):
            return (send,)
        means.count(self.name)
        nil = means.some(means.others)
        rest = tuple(node for node in send.to if node not in nil)
        other = Send(nil, send.path, means.resign(replace(m, value=None)))
        return (Send(rest, send.path, m), other) if rest else (other,)


class TellsFew(Liar):
    """As a proposer it tells few nodes of its proposal, and votes as if all knew it."""

    name = "withholding"
    summary = "sends its proposals to a few nodes"

    def tell(self, send: Send) -> Iterable[Send]:
        """Proposals to some."""
        means = self.means
        if not isinstance(send.message, Proposal) or not means.chance(0.7):
            return (send,)
        means.count(self.name)
        return (Send(means.some(means.others), send.path, send.message),)


class ShowsFalseProofs(Liar):
    """As a proposer of a later round it says that a quorum prevoted what it proposes, and shows what is no proof."""

    name = "false-proofs"
    summary = "proposes a batch as prevoted before, with a certificate that it made up"

    def tell(self, send: Send) -> Iterable[Send]:
        """Another batch than it should, to be taken in spite of a lock."""
        m, means = send.message, self.means
        if not isinstance(m, Proposal) or m.round == 0 or not means.chance(0.7):
            return (send,)
        assert means.keys is not None
        values = tuple(reversed(m.values)) if len(m.values) > 1 else means.core.pending.next_batch() or m.values
        statement = vote_statement(m.height, m.round - 1, batch_id(values))
        signature = means.keys.sign(PREVOTE, statement)
        nodes = sorted((means.node, *means.others)) if means.chance(0.5) else (means.node,)
        proof = Certificate(PREVOTE, statement, tuple([(node, signature) for node in nodes]))
        means.count(self.name)
        lie = replace(m, values=values, valid_round=m.round - 1, proof=proof)
        return (Send(send.to, send.path, means.resign(lie)),)


class Hurrying(Liar):
    """Votes in rounds that nobody is in, near ones and some that are very far ahead."""

    name = "hurrying"
    summary = "votes in rounds to come"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.1, 0.8)

    def tell(self, send: Send) -> Iterable[Send]:
        """Its vote, and the same in a later round."""
        m, means = send.message, self.means
        yield send
        if isinstance(m, Prevote) and means.chance(self.rate):
            means.count(self.name)
            further = 1 + means.rng.getrandbits(4) if means.chance(0.7) else means.rng.getrandbits(15)
            yield Send(means.some(means.others), send.path, means.resign(replace(m, round=m.round + further)))


LIARS = (MakesUpRequests, Splitting, TellsFew, Hurrying, ShowsFalseProofs)
