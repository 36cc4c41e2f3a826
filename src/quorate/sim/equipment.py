"""Equipment: what one protocol is tested with. It stands beside the protocol, and trials alone load it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from quorate.kernel import Core
from quorate.sim.adversary.liar import Liar, Resign, unsigned
from quorate.sim.checkers.base import Checker
from quorate.sim.mutant import Mutant
from quorate.sim.options import COMMON, DISK_FAULTS


class Led(msgspec.Struct, frozen=True):
    """How a protocol is led by appointment, for the systematic search of Twins."""

    core: Callable[[Any, Sequence[int]], type[Core]]
    """From a core and the leaders of rounds 0, 1, ... to one that has these."""
    config: Any
    """One request a proposal, short time-outs."""


class Equipment(msgspec.Struct, frozen=True, kw_only=True):
    """One protocol's, beside what fits every protocol."""

    core: type[Core] | None = None
    """The protocol's with small limits, of those that the config does not have; None: the protocol's as it is."""
    simulation: Any
    """The config for simulated runs: small limits, so that every path is taken."""
    one_by_one: Any = None
    """The same with one log entry a message, or two, for some of the runs; None: its messages have no such limit."""
    kinds: tuple[str, ...] = ()
    """Which of the further kinds of faults it is tested with (``sim/options.py``)."""
    variants: Mapping[str, Callable[[Any, Random, int], Any]] = {}
    """By kind, how a seed that has it changes the config of so many nodes."""
    spared: Callable[[Any, Sequence[int]], int] | None = None
    """By config and members: how many of them may be gone for good. None: as many as the traits say."""
    takes_snapshots: bool = False
    """Whether its cores take snapshots and fetch those of others, so that bugs planted in that show."""
    invariants: tuple[Callable[[], Checker], ...] = ()
    """Makers of the checkers of its inner state."""
    mutants: tuple[Mutant, ...] = ()
    liars: tuple[type[Liar], ...] = ()
    """Its own ways to lie."""
    resign: Resign = unsigned
    """How a Byzantine node signs a message of its own that it changed."""
    twins: Led | None = None
    """None: it cannot be led."""
    with_app: Equipment | None = None
    """What the protocol's ``app_core`` is tested with, above which the workload ``app`` has ABCI apps; None: it has no
    such core."""

    @property
    def spares_nodes(self) -> bool:
        """Whether it goes on without a node that never returns, as far as it tolerates faulty nodes at all."""
        return "gone" in self.kinds

    @property
    def tested_with(self) -> tuple[str, ...]:
        """Every kind of fault that its runs may have. A disk that fails may end its node for good."""
        return (*COMMON, *self.kinds, *(DISK_FAULTS if self.spares_nodes else ()))
