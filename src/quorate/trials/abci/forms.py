"""Which app a seed of the workload ``app`` has: one with snapshots, one that extends votes, or a plain one."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from quorate.parts.crypto.keys import Scheme
from quorate.trials.abci.extending import ExtendingSubject
from quorate.trials.abci.subject import AppSubject
from quorate.trials.abci.submitting import attack_on
from quorate.trials.abci.syncing import SyncSubject

EXTENDING: Final = 0.5
"""How many of the seeds without snapshots have apps that extend votes."""
LATER: Final = 0.4
"""How many of these do so from a later height on, as a block says."""
LATER_HEIGHT: Final = 6
TOLD_AT: Final = 3
ATTACKED: Final = 0.25
"""How many of the plain ones have an attack on light clients, of which somebody shows evidence."""


def app_subject(seed: int, kinds: Sequence[str], scheme: Scheme) -> AppSubject:
    """What one seed puts to the test. ``kinds``: the further kinds of faults that it has."""
    rng = Random(f"{seed}/app")
    if "snapshots" in kinds:
        return SyncSubject()
    if rng.random() < EXTENDING:
        return ExtendingSubject(LATER_HEIGHT, TOLD_AT) if rng.random() < LATER else ExtendingSubject()
    subject = AppSubject()
    if rng.random() < ATTACKED:
        subject.attack = attack_on(scheme)
    return subject
