"""SignState: what this node signed at the open height. It is durable before it leaves, and contradicts itself never.

How it works. Whatever is signed is persisted in the Turn that sends it, so the kernel's barrier holds it back until it
is on disk. What was signed once is said again as it was, with the time that it had; another value for the same round
and step, or anything for an earlier one, is refused, whatever the rules ask for after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from quorate.kernel import Env
from quorate.parts.crypto.keys import Keys
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.messages import ExtendedPrecommit, Precommit, Prevote, Proposal, step_of
from quorate.protocols.tendermint.named_blocks import NamedBlock
from quorate.protocols.tendermint.signed_bytes import extension_bytes, proposal_bytes, vote_bytes

RoundStep: TypeAlias = tuple[int, Step]


class SignState:
    """Of one height at a time. The attributes may be read."""

    def __init__(self, env: Env, keys: Keys, chain_id: str) -> None:
        self._env = env
        self._keys = keys
        self._chain_id = chain_id
        self.height = 1
        self.proposal: Proposal | None = None
        """The last."""
        self.votes: dict[RoundStep, Prevote] = {}

    @property
    def last(self) -> RoundStep | None:
        """The latest round and step for which it signed something."""
        signed = list(self.votes)
        if self.proposal is not None:
            signed.append((self.proposal.round, Step.PROPOSE))
        return max(signed, default=None)

    def propose(
        self, round: int, block: NamedBlock, valid_round: int, proof: bytes | None, time_ns: int
    ) -> Proposal | None:
        """The proposal, or the one that was signed for this round before; None: it may sign none any more."""
        if self.proposal is not None and self.proposal.round == round:
            return self.proposal
        if not self._may_sign((round, Step.PROPOSE)):
            return None
        data = proposal_bytes(self._chain_id, self.height, round, block.name, valid_round, time_ns)
        signature = self._keys.sign_canonical(data)
        self.proposal = Proposal(self.height, round, block.data, valid_round, proof, time_ns, signature)
        self._env.persist(self.proposal)
        return self.proposal

    def vote(self, step: Step, round: int, value: bytes | None, time_ns: int) -> Prevote | None:
        """The vote; None: it would contradict one that was signed before."""
        known = self.votes.get((round, step))
        if known is not None:
            return known if known.value == value else None
        if not self._may_sign((round, step)):
            return None
        signature = self._keys.sign_canonical(vote_bytes(self._chain_id, step, self.height, round, value, time_ns))
        make = Prevote if step is Step.PREVOTE else Precommit
        vote = self.votes[round, step] = make(self.height, round, value, self._env.id, time_ns, signature)
        self._env.persist(vote)
        return vote

    def extended(self, round: int, value: bytes, time_ns: int, extension: bytes) -> Prevote | None:
        """The precommit with this extension, or the one that was signed before, with its own; None: as above."""
        if (round, Step.PRECOMMIT) in self.votes or not self._may_sign((round, Step.PRECOMMIT)):
            return self.vote(Step.PRECOMMIT, round, value, time_ns)
        chain_id, height, sign = self._chain_id, self.height, self._keys.sign_canonical
        signature = sign(vote_bytes(chain_id, Step.PRECOMMIT, height, round, value, time_ns))
        of_extension = sign(extension_bytes(chain_id, height, round, extension))
        vote = ExtendedPrecommit(height, round, value, self._env.id, time_ns, signature, extension, of_extension)
        self.votes[round, Step.PRECOMMIT] = vote
        self._env.persist(vote)
        return vote

    def _may_sign(self, what: RoundStep) -> bool:
        last = self.last
        return last is None or last < what

    def advance(self) -> None:
        """The height is decided: nothing that is signed for it matters any more."""
        self.height += 1
        self.proposal = None
        self.votes.clear()

    def advance_to(self, height: int) -> None:
        """The same for all heights below this one."""
        if height > self.height:
            self.height = height - 1
            self.advance()

    def restore(self, record: Proposal | Prevote) -> None:
        """One durable record of this height."""
        if isinstance(record, Proposal):
            self.proposal = record
        else:
            self.votes[record.round, step_of(record)] = record

    def records(self) -> Iterator[Proposal | Prevote]:
        """Those that replace all before."""
        if self.proposal is not None:
            yield self.proposal
        yield from self.votes.values()
