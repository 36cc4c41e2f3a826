"""The Adversary: Byzantine nodes, made of an honest Host and Liars around it. ``GENERIC``: those for any protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from quorate.sim.adversary.clients import Deceiving
from quorate.sim.adversary.doubled import Doubled
from quorate.sim.adversary.liar import Liar
from quorate.sim.adversary.lies import ByzzFuzz, Equivocating, Forged, Replaying
from quorate.sim.adversary.omit import Silent, Slow
from quorate.sim.options import OptionsError

GENERIC: Final[tuple[type[Liar], ...]] = (Silent, Slow, Replaying, Forged, Equivocating, ByzzFuzz, Deceiving, Doubled)

OMITTING: Final = ("silent", "slow")
"""What a protocol for crashes bears as well."""


def parse_adversary(text: str, liars: Sequence[type[Liar]] = ()) -> tuple[str, ...]:
    """``all``, ``none``, or names separated by commas. Raises OptionsError for one that is not known."""
    names = tuple(liar.name for liar in (*GENERIC, *liars))
    if text in ("all", "none"):
        return names if text == "all" else ()
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted:
        raise OptionsError(
            f"no adversary is called {', '.join(unknown) or repr(text)}; write all, none, or some of {', '.join(names)}"
        )
    return tuple(name for name in names if name in wanted)
