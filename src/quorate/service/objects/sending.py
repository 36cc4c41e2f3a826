"""What a handle adds to a call: its class's version, a fresh seed, and the time; and the machine that applies calls."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from quorate.machines.objects.context import SEED_BYTES
from quorate.machines.objects.kinds import Kinds
from quorate.machines.objects.machine import ObjectMachine, Replicated, encode_call


def pack_call(
    kind: type[Replicated], name: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None, kinds: Kinds
) -> bytes:
    """A call of a method of ``kind``. Raises TypeError for an argument that does not travel."""
    seed, stamp = os.urandom(SEED_BYTES), time.time_ns()
    return encode_call(name, args, kwargs, kinds, version=kind.version, seed=seed, stamp=stamp)


def machine_of(kind: type[Replicated], *, has_liars: bool) -> ObjectMachine:
    """The machine of a node. Raises TypeError for a class that cannot be replicated."""
    return ObjectMachine(kind, has_tracebacks=not has_liars, trusts_members=not has_liars)
