"""Pbft with leaders by appointment, for the systematic search of Twins. Not for anything that keeps data."""

from __future__ import annotations

from collections.abc import Sequence

from quorate.kernel import Env
from quorate.parts.crypto.keys import Keys
from quorate.protocols.pbft.core import Pbft
from quorate.protocols.pbft.messages import PbftConfig

TWINS_CONFIG = PbftConfig(
    batch_count_max=1, inflight_batches=1, request_timeout_s=0.4, view_timeout_s_max=0.8, beat_s=0.1
)


def led(core: type[Pbft], leaders: Sequence[int]) -> type[Pbft]:
    """The core, with these primaries in views 0, 1, ...; beyond them the views go round as ever."""

    class Led(core):  # type: ignore[valid-type, misc]
        def __init__(self, env: Env, config: PbftConfig, keys: Keys) -> None:
            super().__init__(env, config, keys)
            group = self.view.group
            turn = group.primary
            group.primary = lambda view: leaders[view] if view < len(leaders) else turn(view)

    return Led
