"""A protocol as trials see it: its entry in the REGISTRY and the equipment beside it; or both from a file."""

from __future__ import annotations

from importlib import import_module

from quorate.protocols import REGISTRY, ProtocolEntry
from quorate.protocols.traits import Belief
from quorate.sim.adversary import parse_adversary
from quorate.sim.adversary.liar import Liar
from quorate.sim.equipment import Equipment
from quorate.sim.mutant import Mutant
from quorate.sim.options import OptionsError
from quorate.sim.shells import DURABILITY as DURABILITY_MUTANTS
from quorate.sim.shells import SNAPSHOTS as SNAPSHOT_MUTANTS
from quorate.trials.client_mutants import MUTANTS as CLIENT_MUTANTS
from quorate.trials.client_mutants import VOTING_MUTANTS
from quorate.trials.disks import MENDING_MUTANTS
from quorate.trials.disks import MUTANTS as DISK_MUTANTS
from quorate.trials.disks import SNAPSHOT_MUTANTS as SNAPSHOT_FILE_MUTANTS
from quorate.trials.files import is_file, liar_of_file, protocol_of_file
from quorate.trials.mutants import MUTANTS as SERVICE_MUTANTS
from quorate.trials.mutants import SIGNED_MUTANTS

APP = "app"
"""The workload that has ABCI apps."""
EQUIPMENT: dict[str, Equipment] = {}
"""What was loaded so far, by protocol."""


def entry_of(protocol: str) -> ProtocolEntry:
    """The protocol's entry in the registry, or one for a core in a file. Raises OptionsError."""
    if is_file(protocol):
        return protocol_of_file(protocol)[0]
    if protocol not in REGISTRY:
        raise OptionsError(f"no protocol is called {protocol!r}; known are {', '.join(sorted(REGISTRY))}")
    return REGISTRY[protocol]


def equipment_of(protocol: str, workload: str = "") -> Equipment:
    """What the protocol is tested with; for the workload ``app``, its core that drives apps. Raises OptionsError."""
    equipment = protocol_of_file(protocol)[1] if is_file(protocol) else _registered(protocol)
    if workload != APP:
        return equipment
    if equipment.with_app is None:
        raise OptionsError(
            f"{entry_of(protocol).name} drives no ABCI apps: choose another --workload, or {REGISTRY.with_apps()}"
        )
    return equipment.with_app


def _registered(protocol: str) -> Equipment:
    entry = entry_of(protocol)
    equipment = EQUIPMENT.get(protocol)
    if equipment is None:
        found: Equipment = (
            import_module(entry.equipment).EQUIPMENT if entry.equipment else Equipment(simulation=entry.config())
        )
        equipment = EQUIPMENT[protocol] = found
    return equipment


def mutants_of(protocol: str, workload: str = "") -> tuple[Mutant, ...]:
    """The protocol's mutants, and those of the shell, the service and its clients; some take snapshots to show.

    Clients of apps are not the service's.
    """
    equipment = equipment_of(protocol, workload)
    clients = () if workload == APP else CLIENT_MUTANTS
    around = (*SNAPSHOT_MUTANTS, *SNAPSHOT_FILE_MUTANTS, *SERVICE_MUTANTS) if equipment.takes_snapshots else ()
    disks = DISK_MUTANTS if equipment.spares_nodes else ()
    if entry_of(protocol).core.is_repairable:
        disks = (*disks, *MENDING_MUTANTS)
    signed = SIGNED_MUTANTS if "clients" in equipment.kinds else ()
    voting = VOTING_MUTANTS if clients and entry_of(protocol).traits.belief is Belief.VOTES else ()
    return (*DURABILITY_MUTANTS, *disks, *equipment.mutants, *around, *signed, *clients, *voting)


def mutant_of(protocol: str, name: str, workload: str = "") -> Mutant:
    """A mutant by name. Raises OptionsError."""
    for mutant in mutants_of(protocol, workload):
        if mutant.name == name:
            return mutant
    known = ", ".join(mutant.name for mutant in mutants_of(protocol, workload))
    raise OptionsError(f"{protocol} has no mutant {name!r}; it has {known}")


def adversary_of(protocol: str, text: str, workload: str = "") -> tuple[tuple[type[Liar], ...], tuple[str, ...]]:
    """The liars that there are beside those for every protocol, and the names of those that ``text`` wants.

    ``all``, ``none``, or names and liars in files (``theirs.py:Attack``), separated by commas. Raises OptionsError.
    """
    liars = equipment_of(protocol, workload).liars
    wanted = [name.strip() for name in text.split(",")]
    brought = tuple(liar_of_file(name) for name in wanted if is_file(name))
    if not brought:
        return liars, parse_adversary(text, liars)
    every = (*liars, *(liar for liar in brought if liar not in liars))
    names = ["all"] if "all" in wanted else [liar_of_file(name).name if is_file(name) else name for name in wanted]
    return every, parse_adversary(",".join(names), every)
