"""Chains whose apps extend votes, under faults and liars, each call through the grammar checker; and planted bugs."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.kernel import Env
from quorate.parts.crypto.keys import Keys
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.commits import decided_block
from quorate.protocols.tendermint.deciding import Deciding
from quorate.protocols.tendermint.effects import SendVote, Step
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
from quorate.protocols.tendermint.signing import SignState

from tests.protocols.tendermint.app_trial import AppSubject, held
from tests.protocols.tendermint.extended_node import EXTEND, VERIFY
from tests.protocols.tendermint.extension_trial import EXTENDED, GIVEN, LIES, ONE_EXTENSION, run

OURS = ("misextending", "twoextensions", "stripping")


def hold(seeds: range, **options: Any) -> list[AppSubject]:
    return held(seeds, runs=run, **options)


def test_votes_are_extended_under_faults() -> None:
    (subject,) = hold(range(1))
    calls = [call for made in subject.apps.values() for asked in made for call in asked.calls]
    assert len([call for call in calls if isinstance(call, EXTEND)]) > 20
    assert len([call for call in calls if isinstance(call, VERIFY)]) > 40


def test_and_from_a_later_height_on_where_a_node_lies() -> None:
    hold(range(1), enabled=6, told_at=3, byzantine=1, adversary=LIES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "options"),
    [
        (range(1, 13), {}),
        (range(1, 13), {"byzantine": 1, "adversary": LIES}),
        (range(15), {"byzantine": 1, "adversary": OURS}),
        (range(1, 9), {"byzantine": 1, "adversary": OURS, "enabled": 6, "told_at": 3}),
        (range(2), {"nodes": 7, "byzantine": 2, "adversary": OURS}),
    ],
    ids=["crashes", "any liar", "liars about extensions", "from height 6 on", "two liars of seven"],
)
def test_many_seeds(seeds: range, options: dict[str, Any]) -> None:
    hold(seeds, **options)


# --- planted bugs ---


class Undurable(SignState):
    """Asks the app again after a crash."""

    def restore(self, record: Proposal | Prevote) -> None:
        if not isinstance(record, ExtendedPrecommit):
            super().restore(record)


class Unsigned(ExtendedVotes):
    """Believes that extensions are signed."""

    def add(self, m: ExtendedPrecommit) -> str | None:
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
        why = super().add(m)
        self._held.clear()
        self._waiting.clear()
        if why is None:
            self._rules.on_said(vote_said(m))
        return why


class Lax(ExtendedVotes):
    """Counts what the app rejects."""

    def judged(self, node: int, round: int, is_accepted: bool) -> None:
        super().judged(node, round, True)


class ExtendsNil(Extending):
    """Attaches something to a precommit for nil."""

    def takes(self, effect: SendVote) -> bool:
        return effect.step is Step.PRECOMMIT and self._chain.extends(self._current.open.number)

    def on_send_vote(self, effect: SendVote) -> None:
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
        return ()


class GivesNothing(AppChain):
    def __init__(self, env: Env, config: TendermintConfig = TendermintConfig(), *, keys: Keys) -> None:  # noqa: B008 (frozen)
        super().__init__(env, config, keys=keys)
        self.app.last_extensions = Nothing(self.chain, self.log)


def planted(**parts: Any) -> type[AppChain]:
    return type("Planted", (AppChain,), parts)


def planted_votes(bug: type[ExtendedVotes]) -> type[AppChain]:
    return planted(open_class=type("PlantedHeight", (OpenHeight,), {"extended_class": bug}))


@pytest.mark.parametrize(
    ("core", "first", "lies", "violated"),
    [
        (planted(signing_class=Undurable), 27, False, {ONE_EXTENSION}),  # a crash between two messages: one seed of ten
        (planted_votes(Unsigned), 2, True, {GIVEN}),
        (planted_votes(Unverified), 2, True, {GIVEN}),
        (planted_votes(Lax), 2, True, {GIVEN}),
        (planted(extending_class=ExtendsNil), 2, False, {EXTENDED}),
        (planted(deciding_class=Credulous), 4, True, {GIVEN, EXTENDED}),
        (planted(deciding_class=Plain), 0, False, {EXTENDED}),
        (GivesNothing, 0, False, {GIVEN}),
    ],
    ids=["undurable", "unsigned", "unverified", "lax", "nil", "credulous", "plain", "nothing"],
)
def test_planted_bugs_are_seen(core: type[AppChain], first: int, lies: bool, violated: set[str]) -> None:
    liars: dict[str, Any] = {"byzantine": 1, "adversary": OURS} if lies else {}
    for seed in range(first, first + 4):
        outcome = run(seed, core=core, **liars)
        if not outcome.holds:
            assert outcome.violated in violated, outcome.text
            return
    raise AssertionError("none of four seeds shows it")
