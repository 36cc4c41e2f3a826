"""Height: algorithm 1 of Tendermint, for one height at one node. Pure: it is fed, and says what is to be done.

Source: Buchman, Kwon, Milosevic, "The latest gossip on BFT consensus" (arXiv 1807.04938). Each rule has the numbers of
its lines in algorithm 1, and its condition in the paper's words. 2f + 1 is a quorum by voting power, f + 1 a set
without which there is none.

How it works. Proposals, votes, timeouts and answers come in by the ``on_`` methods. After each, ``_evaluate`` tries the
rules, as often as one of them does something: what one does may be what another waits for. The paper runs a rule "for
the first time" once a round; ``_fired`` knows which did. What is to be done is in ``effects``, in order, until somebody
takes it. What this node sends comes back to it as what others send does, and counts only then.

Values are known by their digests. Whoever hands in a proposal has the value. Whether it is valid may take time to find
out: a rule that must know waits, others do not, and a timeout ends the waiting if need be. So does a new value.

Durable state is for whoever holds a Height: what it sent, and the lock (``resume``).
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.parts.quorum import QuorumSystem
from quorate.protocols.tendermint.effects import (
    NO_ROUND,
    Decide,
    Effect,
    EnterRound,
    GetValue,
    Judge,
    KeepValid,
    Lock,
    SaidOnce,
    SendProposal,
    SendVote,
    SetTimeout,
    SignedProposal,
    Step,
    ValueId,
)
from quorate.protocols.tendermint.heard import Heard


class Height:
    """One height. Whoever holds it may read the public attributes; they change by the methods alone."""

    def __init__(self, node: int, quorum: QuorumSystem, proposer_of: Callable[[int], int]) -> None:
        """``quorum``: more than two thirds of the power; ``proposer_of``: by round, who proposes in it."""
        self._node = node
        self._proposer_of = proposer_of
        self.heard = Heard(quorum, proposer_of)
        # Lines 1-9. The state is new with each height, and with no round.
        self.is_started = False
        self.round = 0
        self.step = Step.PROPOSE
        self.locked_value: ValueId | None = None
        self.locked_round = NO_ROUND
        self.valid_value: ValueId | None = None
        self.valid_round = NO_ROUND
        self.decision: Decide | None = None
        self.effects: list[Effect] = []
        self._is_building = False
        self._fired: set[tuple[int, int]] = set()  # line and round, of the rules that run once a round
        self.validity: dict[ValueId, bool | None] = {}
        """Of values that a rule asked for; None: not known yet."""
        self._rules = (
            self.rule_49,
            self.rule_22,
            self.rule_28,
            self.rule_36,
            self.rule_34,
            self.rule_44,
            self.rule_47,
            self.rule_55,
        )

    def take(self) -> list[Effect]:
        """What is to be done since this was last asked."""
        effects, self.effects = self.effects, []
        return effects

    # --- what comes ---

    def start(self) -> None:
        """Line 10: enter round 0."""
        self.is_started = True
        self._start_round(0)
        self._evaluate()

    def resume(
        self,
        round: int,
        step: Step,
        locked: tuple[int, ValueId] | None = None,
        valid: tuple[int, ValueId] | None = None,
    ) -> None:
        """After a restart, in place of ``start``: the round and the step of what was sent last, and what was kept.

        In step PROPOSE the round begins again; a proposer must then repeat the proposal that it sent, if it did.
        """
        self.is_started = True
        if locked is not None:
            self.locked_round, self.locked_value = locked
        if valid is not None:
            self.valid_round, self.valid_value = valid
        self._start_round(round)
        if step is not Step.PROPOSE:
            self.step, self._is_building = step, False
            self.effects = [effect for effect in self.effects if isinstance(effect, EnterRound)]
        self._evaluate()

    def on_said(self, said: SaidOnce) -> None:
        """A vote or a proposal, of this node too."""
        if (found := self.heard.add(said)) is not None:
            self.effects.append(found)
        self._evaluate()

    def on_contradicted(self, first: SaidOnce, second: SaidOnce) -> None:
        """Two of one node, round and step that differ, neither of which counts yet."""
        if (found := self.heard.contradict(first, second)) is not None:
            self.effects.append(found)

    def on_certified(self, round: int, step: Step, value: ValueId) -> None:
        """A certificate shows that a quorum voted for this."""
        self.heard.certify(round, step, value)
        self._evaluate()

    def on_judged(self, value: ValueId, is_valid: bool) -> None:
        """The answer to Judge. The first one stays."""
        if self.validity.get(value) is None:
            self.validity[value] = is_valid
            self._evaluate()

    def on_built(self, round: int, value: ValueId) -> None:
        """The answer to GetValue. It may come too late."""
        if self._is_building and round == self.round and self.decision is None:
            self._is_building = False
            self.effects.append(SendProposal(round, value, NO_ROUND))

    def on_timeout(self, step: Step, round: int) -> None:
        """The time of a step in a round is over; it may be so for nobody any more."""
        if self.decision is not None or round != self.round:
            return
        if step is Step.PROPOSE:
            self.timeout_57()
        elif step is Step.PREVOTE:
            self.timeout_61()
        else:
            self.timeout_65()
        self._evaluate()

    # --- the rules ---

    def _evaluate(self) -> None:
        while self.is_started and self.decision is None and any(rule() for rule in self._rules):
            pass

    def _start_round(self, round: int) -> None:
        """Lines 11-21: the proposer proposes its valid value, or else a new one; the others give it some time."""
        self.round, self.step = round, Step.PROPOSE
        self._is_building = False
        self.effects.append(EnterRound(round))
        self.effects += self.heard.enter(round)
        if self._proposer_of(round) != self._node:
            self.effects.append(SetTimeout(Step.PROPOSE, round))
        elif self.valid_value is not None:
            self.effects.append(SendProposal(round, self.valid_value, self.valid_round))
        else:
            self._is_building = True
            self.effects.append(GetValue(round))

    def rule_22(self) -> bool:
        """Lines 22-27: upon PROPOSAL(h, round, v, -1) from the proposer while step = propose.

        Prevote v, if it is valid and no lock is on another value; else nil.
        """
        if self.step is not Step.PROPOSE:
            return False
        for proposal in self.heard.proposals(self.round):
            if proposal.valid_round == NO_ROUND:
                allowed = self.locked_round == NO_ROUND or self.locked_value == proposal.value
                if self._answer(proposal, allowed):
                    return True
        return False

    def rule_28(self) -> bool:
        """Lines 28-33: upon PROPOSAL(h, round, v, vr) from the proposer and 2f + 1 PREVOTE(h, vr, id(v)), while
        step = propose and 0 <= vr < round.

        Prevote v, if it is valid and the lock is on it, or is no later than vr; else nil.
        """
        if self.step is not Step.PROPOSE:
            return False
        for proposal in self.heard.proposals(self.round):
            valid_round = proposal.valid_round
            if 0 <= valid_round < self.round and self.heard.has_quorum(valid_round, Step.PREVOTE, proposal.value):
                allowed = self.locked_round <= valid_round or self.locked_value == proposal.value
                if self._answer(proposal, allowed):
                    return True
        return False

    def _answer(self, proposal: SignedProposal, allowed: bool) -> bool:
        """Prevote, once it is clear what. A value that the lock forbids gets nil, valid or not."""
        is_valid = self._is_valid(proposal.value) if allowed else False
        if is_valid is None:
            return False
        self._vote(Step.PREVOTE, proposal.value if is_valid else None)
        return True

    def rule_34(self) -> bool:
        """Lines 34-35: upon 2f + 1 PREVOTE(h, round, *) while step = prevote, for the first time.

        Give the rest some time to make that a quorum for something.
        """
        if self.step is not Step.PREVOTE or not self.heard.has_any_quorum(self.round, Step.PREVOTE):
            return False
        return self._fires(34) and self._set_timeout(Step.PREVOTE)

    def rule_36(self) -> bool:
        """Lines 36-43: upon PROPOSAL(h, round, v, *) from the proposer and 2f + 1 PREVOTE(h, round, id(v)), while
        valid(v) and step >= prevote, for the first time.

        Lock v and precommit it, unless this node has precommitted already. The valid value is v in either case.
        """
        if self.step is Step.PROPOSE or (36, self.round) in self._fired:
            return False
        for proposal in self.heard.proposals(self.round):
            value = proposal.value
            if self.heard.has_quorum(self.round, Step.PREVOTE, value) and self._is_valid(value):
                self._fires(36)
                if self.step is Step.PREVOTE:
                    self.locked_value, self.locked_round = value, self.round
                    self.effects.append(Lock(self.round, value))
                self.valid_value, self.valid_round = value, self.round
                self.effects.append(KeepValid(self.round, value))
                if self.step is Step.PREVOTE:
                    self._vote(Step.PRECOMMIT, value)
                return True
        return False

    def rule_44(self) -> bool:
        """Lines 44-46: upon 2f + 1 PREVOTE(h, round, nil) while step = prevote.

        Precommit nil. A lock stays as it is.
        """
        if self.step is not Step.PREVOTE or not self.heard.has_quorum(self.round, Step.PREVOTE, None):
            return False
        self._vote(Step.PRECOMMIT, None)
        return True

    def rule_47(self) -> bool:
        """Lines 47-48: upon 2f + 1 PRECOMMIT(h, round, *), for the first time, in whichever step.

        Give the rest some time to make that a decision.
        """
        if not self.heard.has_any_quorum(self.round, Step.PRECOMMIT):
            return False
        return self._fires(47) and self._set_timeout(Step.PRECOMMIT)

    def rule_49(self) -> bool:
        """Lines 49-54: upon PROPOSAL(h, r, v, *) from the proposer of r and 2f + 1 PRECOMMIT(h, r, id(v)), in any
        round r, while nothing is decided.

        Decide v, if it is valid. The next height is for whoever holds this one.
        """
        for round, value in self.heard.precommitted():
            if any(proposal.value == value for proposal in self.heard.proposals(round)) and self._is_valid(value):
                self.decision = Decide(round, value)
                self.effects.append(self.decision)
                return True
        return False

    def rule_55(self) -> bool:
        """Lines 55-56: upon f + 1 messages (*, h, r, *, *) with r > round.

        Enter round r: one of those who are there is correct.
        """
        if self.heard.reached <= self.round:
            return False
        self._start_round(self.heard.reached)
        return True

    def timeout_57(self) -> None:
        """Lines 57-60: no proposal has come, or none that could be judged; prevote nil."""
        if self.step is Step.PROPOSE:
            self._vote(Step.PREVOTE, None)

    def timeout_61(self) -> None:
        """Lines 61-64: no quorum prevoted one value; precommit nil."""
        if self.step is Step.PREVOTE:
            self._vote(Step.PRECOMMIT, None)

    def timeout_65(self) -> None:
        """Lines 65-67: no quorum precommitted one value; enter the next round."""
        self._start_round(self.round + 1)

    # --- what rules share ---

    def _vote(self, step: Step, value: ValueId | None) -> None:
        """A step ends with the vote that it is named after."""
        self.step = step
        self.effects.append(SendVote(step, self.round, value))

    def _fires(self, line: int) -> bool:
        """Whether this is the first time in this round."""
        if (line, self.round) in self._fired:
            return False
        self._fired.add((line, self.round))
        return True

    def _set_timeout(self, step: Step) -> bool:
        self.effects.append(SetTimeout(step, self.round))
        return True

    def _is_valid(self, value: ValueId) -> bool | None:
        """None: that is not known yet. Who does not know asks, once."""
        if value not in self.validity:
            self.validity[value] = None
            self.effects.append(Judge(value))
        return self.validity[value]
