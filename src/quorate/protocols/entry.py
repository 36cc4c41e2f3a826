"""ProtocolEntry: a protocol in the REGISTRY, as its package states it: how to make its core, what to expect of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from quorate.kernel import Core, Env
from quorate.protocols.traits import CRASH, Traits

if TYPE_CHECKING:
    from quorate.parts.crypto.keys import Keys


class ProtocolEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What production knows of a protocol. ``equipment`` is the name of a module that trials alone import."""

    name: str
    title: str
    core: type[Core]
    config: type[msgspec.Struct]
    tolerates: str
    """The fault model, in words."""
    traits: Traits = CRASH
    genesis_option: str = ""
    """The config's field with the time at which the cluster begins, in seconds since 1970; empty: it has none."""
    app_core: type[Core] | None = None
    """The core that drives ABCI apps, if the protocol has one."""
    equipment: str = ""
    """The module whose EQUIPMENT tests it with: simulation config, checkers, planted bugs, liars
    (``sim/equipment.py``)."""

    def faults(self, nodes: int) -> int:
        """How many faulty nodes so many tolerate."""
        return self.traits.faults(nodes)

    def make(
        self, config: Any, core: type[Core] | None = None, keys: Callable[[int], Keys] | None = None
    ) -> Callable[[Env], Core]:
        """A maker of cores for a Host; ``core`` replaces the healthy class. ``keys`` gives a node its own."""
        build: Callable[..., Core] = core or self.core
        if not self.traits.has_keys:
            return lambda env: build(env, config)
        if keys is None:
            raise ValueError(f"the nodes of {self.name} need keys")
        return lambda env: build(env, config, keys=keys(env.id))
