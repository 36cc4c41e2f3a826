"""Quotas: how often a campaign has to have brought each fault, so that it means something if it finds nothing.

How it works. A fault is counted in every run, and belongs to a kind of faults. If a campaign switches the kind on, it
must have brought the fault at least ``LEAST`` times per ``SEEDS`` seeds. Fewer seeds than that are not judged: some
faults are rare, and whoever runs twenty seeds wants to know whether something breaks, no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from quorate.sim.disk_nemesis import DAMAGING
from quorate.sim.options import COMMON, DISK_FAULTS, parse_faults
from quorate.trials.campaign import Task
from quorate.trials.protocols import APP, adversary_of, entry_of, equipment_of

SEEDS: Final = 500
LEAST: Final = 50

QUOTAS: Final[Mapping[str, tuple[str, ...]]] = {
    "crash": ("crashed nodes",),
    "partition": ("partition",),
    "gone": ("gone for good", "absence"),
    "members": ("decommissions", "epochs crossed"),
    "snapshots": ("transfers cut", "pieces stored", "pieces failed", "snapshots failed", "sources dry"),
    "leases": ("clocks begun anew",),
    "delays": ("slow turns of links",),
    "clients": ("requests of false clients",),
    "transfers": ("transferred",),
    "hang-ups": ("crashes noticed",),
    **{kind: (kind,) for kind in DAMAGING},
    "sync-error": ("syncs failed",),
    "snapshot-full": ("snapshot-full",),
    "hung-disk": ("syncs hung", "hangs found"),
}
"""By kind, the faults that it must bring, as they are called in the counts of a run."""

APP_SNAPSHOTS: Final = ("OfferSnapshot", "ApplySnapshotChunk")
"""What ``snapshots`` must bring where they are those of ABCI apps: the calls."""
LIES: Final[Mapping[str, tuple[str, ...]]] = {"lying-source": ("pieces poisoned",)}
"""By liar, the lies of it that a campaign with snapshots must bring: each of them needs a node that fetches one."""


class Quota(msgspec.Struct, frozen=True):
    """How often a campaign brought one fault, and how often it had to; 0 if it has too few seeds to be judged."""

    kind: str
    count: int
    least: int

    @property
    def is_met(self) -> bool:
        """Whether it came often enough."""
        return self.count >= self.least


def quotas_of(task: Task, seeds: int, counts: Mapping[str, int]) -> dict[str, Quota]:
    """By fault, for a campaign of tasks like this one. A planted bug may well end its runs early: it has none."""
    if task.mutant:
        return {}
    tested = (*COMMON, *equipment_of(task.protocol, task.workload).kinds, *_of_disks(task))
    least = LEAST * seeds // SEEDS if seeds >= SEEDS else 0
    asked = {kind: QUOTAS.get(kind, ()) for kind in parse_faults(task.faults) if kind in tested}
    if task.workload == APP and "snapshots" in asked:
        asked["snapshots"] = APP_SNAPSHOTS
    if task.repairs:
        asked = {kind: faults for kind, faults in asked.items() if kind not in ("gone", "members")}
        asked["repairs"] = ("lost folders", "returned")
    if "gone" in asked and not _spares_one(task):
        asked["gone"] = ("absence",)
    if task.byzantine and "snapshots" in asked:
        _, adversary = adversary_of(task.protocol, task.adversary, task.workload)
        asked |= {liar: lies for liar, lies in LIES.items() if liar in adversary}
    return {fault: Quota(kind, counts.get(fault, 0), least) for kind, faults in asked.items() for fault in faults}


def _spares_one(task: Task) -> bool:
    """Whether a member can be spared besides those that lie."""
    entry, equipment = entry_of(task.protocol), equipment_of(task.protocol, task.workload)
    return equipment.spares_nodes and entry.faults(task.nodes) > task.byzantine


def _of_disks(task: Task) -> tuple[str, ...]:
    """The kinds that strike at all: none that damages, where no node can be spared besides those that lie."""
    equipment = equipment_of(task.protocol, task.workload)
    if not equipment.spares_nodes:
        return ()
    dooms = _spares_one(task) and not (task.joins or task.repairs)
    of_snapshots = () if equipment.takes_snapshots else ("snapshot-rot", "snapshot-full")
    return tuple(kind for kind in DISK_FAULTS if (dooms or kind not in DAMAGING) and kind not in of_snapshots)


def shortfall(quotas: Mapping[str, Quota]) -> str:
    """What came too seldom, and what to do, in words; empty if all came often enough."""
    missed = {fault: quota for fault, quota in quotas.items() if not quota.is_met}
    if not missed:
        return ""
    said = ", ".join(f"{quota.count} {fault} ({quota.kind})" for fault, quota in missed.items())
    least = next(iter(missed.values())).least
    return (
        f"too few faults to trust this: {said}; it takes {least} of each. Run more or longer (--duration-s), "
        "or leave the kinds in brackets out of --faults, or of --adversary"
    )
