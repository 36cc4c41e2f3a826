"""Runs of the workload ``app`` (``trials/abci``) with an app, a core, liars and faults of a test's choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from quorate.parts.crypto.keys import Scheme, Symbolic
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.app_invariants import AppInvariants
from quorate.protocols.tendermint.app_liars import APP_LIARS
from quorate.protocols.tendermint.entry import ENTRY
from quorate.protocols.tendermint.equipment import EQUIPMENT
from quorate.protocols.tendermint.liars import resign_tendermint
from quorate.protocols.tendermint.messages import TendermintConfig
from quorate.sim.adversary.liar import Liar
from quorate.sim.options import COMMON, Options
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.trial import Trial
from quorate.trials.abci.subject import AppSubject
from quorate.trials.abci.submitting import attack_on

S = TypeVar("S", bound=AppSubject)

CONFIG = EQUIPMENT.simulation


def app_trial(
    seed: int,
    subject: AppSubject,
    *,
    core: type[AppChain] = AppChain,
    nodes: int = 4,
    duration_s: float = 5.0,
    byzantine: int = 0,
    adversary: tuple[str, ...] = (),
    faults: tuple[str, ...] = COMMON,
    scheme: Scheme | None = None,
    healing_s: float = 60.0,
    attacked: bool = False,
    liars: tuple[type[Liar], ...] = APP_LIARS,
    config: TendermintConfig = CONFIG,
) -> Trial:
    """One run under the common faults. ``attacked``: light clients were, and a node is shown evidence of it."""
    scheme = scheme or Symbolic(range(nodes), b"%d" % seed, "apps")
    subject.attack = attack_on(scheme) if attacked else None
    return Trial(
        make=ENTRY.make(config, core, scheme.keys),
        subject=subject,
        options=Options(
            seed=seed,
            nodes=nodes,
            duration_s=duration_s,
            faults=faults,
            byzantine=byzantine,
            adversary=adversary,
            healing_s=healing_s,
        ),
        borne=lambda members: (len(members) - 1) // 3,
        invariants=(AppInvariants,),
        scheme=scheme,
        liars=liars,
        resign=resign_tendermint,
    )


def run(seed: int, subject: AppSubject | None = None, **options: Any) -> RunOutcome:
    """One seed to its end or to the first violation."""
    return simulate(app_trial(seed, subject or AppSubject(), **options))


def held(
    seeds: range, make: Callable[[], S] = AppSubject, runs: Callable[..., RunOutcome] = run, **options: Any
) -> list[S]:
    """The subjects of these seeds, each of which must hold."""
    subjects = []
    for seed in seeds:
        subject = make()
        outcome = runs(seed, subject, **options)
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"
        subjects.append(subject)
    return subjects


def core_of(mutant: str) -> type[AppChain]:
    """The sick core of one of the planted bugs of apps."""
    assert EQUIPMENT.with_app is not None
    (core,) = [each.core for each in EQUIPMENT.with_app.mutants if each.name == mutant]
    assert core is not None
    assert issubclass(core, AppChain)
    return core
