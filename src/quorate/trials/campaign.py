"""Campaigns: many seeds of one protocol, in this process or in several, with the same answers in the same order."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from random import Random
from typing import Any

import msgspec

from quorate.kernel import Shell
from quorate.parts import requests
from quorate.parts.crypto.keys import Signer, Symbolic
from quorate.protocols import REGISTRY, ProtocolEntry
from quorate.protocols.traits import Traits
from quorate.service.client.core import ClientCore
from quorate.sim import ordeals
from quorate.sim.adversary import OMITTING
from quorate.sim.equipment import Equipment
from quorate.sim.mutant import Mutant
from quorate.sim.options import ADMINISTRATOR, DISK_FAULTS, GROUPS, MemberChange, Options, OptionsError, parse_faults
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.storage import Storage
from quorate.sim.trace import Trace
from quorate.sim.trial import Trial
from quorate.sim.workload import Subject
from quorate.trials.abci.forms import app_subject
from quorate.trials.abci.subject import AppSubject
from quorate.trials.disks import medium_of
from quorate.trials.files import is_file
from quorate.trials.objects.loading import object_file_of
from quorate.trials.objects.subject import ObjectSubject
from quorate.trials.protocols import APP, adversary_of, entry_of, equipment_of, mutant_of
from quorate.trials.subjects import SUBJECTS, check_traits, subject

WORKLOADS = (*sorted(SUBJECTS), "mix", APP)
KV_EVERY = 4
"""In a mix, how many seeds there are to one of the key-value store, which is slower to simulate."""

ONE_BY_ONE_EVERY = 3
"""How many seeds there are to one whose config lets one log entry into a message."""

CLUSTER = "simulated"
"""For which everything is signed in a campaign."""
SEEDS_MAX = 10_000_000
JOINS_NODES_MIN = 3
REPAIRS_NODES = 3
"""With so many nodes bugs that are planted in repairs show soonest."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What one run is, in words that cross to another process."""

    protocol: str
    seed: int
    nodes: int = 5
    faults: str = "all"
    duration_s: float = 10.0
    workload: str = "register"
    mutant: str = ""
    byzantine: int = 0
    adversary: str = "all"
    joins: bool = False
    repairs: bool = False
    replicated: str = ""
    """A replicated class in a file, instead of a workload: ``counter.py:Counter``."""


def parse_seeds(text: str) -> range:
    """``7``, or ``0:500`` for 0 to 499. Raises OptionsError."""
    first, colon, end = text.partition(":")
    try:
        seeds = range(int(first), int(end) if colon else int(first) + 1)
    except ValueError:
        raise OptionsError(f"{text!r} is not a range of seeds; write 7, or 0:500 for 0 to 499") from None
    if not seeds or seeds.start < 0 or len(seeds) > SEEDS_MAX:
        raise OptionsError(
            f"{text!r} is not a range of seeds; write first:end, 0 <= first < end, at most {SEEDS_MAX:,} of them"
        )
    return seeds


def run_task(task: Task, trace: Trace | None = None) -> RunOutcome:
    """Run one task. Raises OptionsError where it makes no sense."""
    return simulate(trial_of(task), trace)


def trial_of(task: Task) -> Trial:
    """What a task puts to the test, made afresh. Raises OptionsError where it makes no sense."""
    entry, equipment = entry_of(task.protocol), equipment_of(task.protocol, task.workload)
    traits = entry.traits
    mutant = mutant_of(task.protocol, task.mutant, task.workload) if task.mutant else Mutant("", "")
    if mutant.joins:
        task = msgspec.structs.replace(task, joins=True)
    if mutant.repairs:
        task = msgspec.structs.replace(task, repairs=True, nodes=min(task.nodes, REPAIRS_NODES))
    check_joins(task)
    check_repairs(task)
    workload = task.workload
    if workload not in WORKLOADS:
        raise OptionsError(f"no workload is called {workload!r}; known are {', '.join(WORKLOADS)}")
    if workload == "mix":
        workload = "kv" if task.seed % KV_EVERY == 0 else "register"
    liars, adversary = adversary_of(task.protocol, task.adversary, task.workload)
    core = mutant.core or equipment.core or entry.core
    faults = () if mutant.quiet else tuple(kind for kind in parse_faults(task.faults) if kind in equipment.tested_with)
    kinds = ordeals.chosen(task.seed, faults, joins=task.joins, repairs=task.repairs)
    options = Options(
        seed=task.seed,
        nodes=task.nodes,
        duration_s=task.duration_s,
        faults=faults,
        by_inputs=core.by_inputs,
        byzantine=byzantine_of(task, mutant),
        adversary=adversary,
        joins=task.joins,
        repairs=task.repairs,
    )
    scheme = Symbolic(range(task.nodes), b"%d" % task.seed, CLUSTER) if traits.has_keys else None
    config = _config(equipment, task, kinds)
    borne, storage = _borne(entry, equipment, config), Storage()
    if not set(DISK_FAULTS).isdisjoint(faults):
        spared = borne(range(task.nodes)) if equipment.spares_nodes else 0
        storage = Storage(medium_of(core) if spared else None, spared, mends=core.is_repairable and not core.by_inputs)
    if task.joins or "members" in kinds:
        config = msgspec.structs.replace(config, founders=tuple(range(task.nodes)))
    change = None
    if traits.members.value is not None:
        change = MemberChange(traits.members.value, may_be_witnesses=traits.members.may_be_witnesses)
    if change is not None and traits.members.by_admin:
        assert scheme is not None
        fewest = traits.fault_model.nodes(entry.faults(task.nodes))  # clients go on believing f + 1 equal answers
        config, change = _administered(config, change.value, scheme.client(ADMINISTRATOR), fewest)
    made = _subject(task, workload, kinds, traits, scheme, mutant.client or ClientCore)
    if isinstance(made, AppSubject):
        liars = tuple([liar for liar in liars if liar not in made.idle])
    return Trial(
        make=entry.make(config, core, scheme.keys if scheme else None),
        subject=made,
        options=options,
        kinds=kinds,
        borne=borne,
        invariants=equipment.invariants,
        sick_app=mutant.app,
        shell=mutant.shell or Shell,
        storage=storage if mutant.storage is None else mutant.storage(storage),
        change=change,
        scheme=scheme,
        liars=liars,
        resign=equipment.resign,
    )


def _subject(
    task: Task, workload: str, kinds: Sequence[str], traits: Traits, scheme: Symbolic | None, client: type[ClientCore]
) -> Subject:
    """A person's class, or what the workload names."""
    if workload == APP:
        assert scheme is not None, "who drives apps has keys"
        return app_subject(task.seed, kinds, scheme)
    file = object_file_of(task.replicated) if task.replicated else None
    if file is None:
        if task.replicated:
            raise OptionsError(f"{task.replicated} is not a replicated class in a file")
        return subject(workload, traits, scheme, client)
    check_traits(traits)
    made = ObjectSubject(file, task.seed, traits, scheme)
    made.client = client
    return made


def byzantine_of(task: Task, mutant: Mutant) -> int:
    """How many nodes lie: as asked for, or as many as the protocol bears where a mutant needs it."""
    return task.byzantine or (entry_of(task.protocol).traits.liars(task.nodes) if mutant.lies else 0)


def check_joins(task: Task) -> None:
    """Whether nodes can come and go. Raises OptionsError."""
    if not task.joins:
        return
    entry = entry_of(task.protocol)
    if not entry.traits.members.can_change:
        able = " or ".join(sorted(name for name, other in REGISTRY.items() if other.traits.members.can_change))
        raise OptionsError(f"the members of {entry.name} do not change: leave out --joins, or choose {able}")
    if task.nodes < JOINS_NODES_MIN:
        raise OptionsError(f"--joins with {task.nodes} nodes: it takes {JOINS_NODES_MIN} or more, as some leave")


def check_repairs(task: Task) -> None:
    """Whether nodes that lose their folders can be repaired. Raises OptionsError."""
    if not task.repairs:
        return
    entry = entry_of(task.protocol)
    if not entry.core.is_repairable:
        able = " or ".join(sorted(name for name, other in REGISTRY.items() if other.core.is_repairable))
        raise OptionsError(f"a node of {entry.name} cannot be repaired: leave out --repairs, or choose {able}")
    if task.joins:
        raise OptionsError("--repairs and --joins are not tested together: leave one out")
    if entry.faults(task.nodes) < 1:
        raise OptionsError(f"--repairs with {task.nodes} nodes: too few to go on while one is without its memory")


def check_faults(task: Task) -> str:
    """What is to be said of kinds of faults that are asked for by name and do not happen; mostly nothing."""
    tested = equipment_of(task.protocol, task.workload).tested_with
    named = [name.strip() for name in task.faults.split(",")]
    absent = [name for name in named if name and name not in GROUPS and name not in tested]
    return f"{task.protocol} is not tested with {', '.join(absent)}: no run has that" if absent else ""


def check_adversary(task: Task) -> str:
    """What is to be said before nodes lie; mostly nothing. Raises OptionsError.

    A protocol for crashes is not refused those that are named: to see it break is worth something too.
    """
    entry = entry_of(task.protocol)
    _, names = adversary_of(task.protocol, task.adversary, task.workload)
    if not task.byzantine:
        return ""
    if not entry.traits.is_byzantine:
        if task.adversary == "all":
            cure = (
                ". A core that tolerates lies says so in TRAITS, beside it in the file"
                if is_file(task.protocol)
                else ""
            )
            raise OptionsError(
                f"{entry.name} tolerates {entry.tolerates}, not lies; test it with --adversary {','.join(OMITTING)}. "
                f"To see it break, name another, such as --adversary equivocating{cure}"
            )
        lies = [name for name in names if name not in OMITTING]
        if lies:
            return f"{entry.name} does not claim to tolerate {', '.join(lies)}: expect violations"
    if task.byzantine > entry.faults(task.nodes):
        return (
            f"{entry.name} tolerates {entry.faults(task.nodes)} lying of {task.nodes} nodes, not {task.byzantine}: "
            "expect violations"
        )
    return ""


def _administered(
    config: Any, value: Callable[..., bytes], administrator: Signer, fewest: int
) -> tuple[Any, MemberChange]:
    """A config that names the administrator, and changes that it signs."""
    config = msgspec.structs.replace(config, admins=(administrator.public,))

    def signed(*what: Any) -> bytes:
        return requests.sign(administrator, [value(*what)])

    return config, MemberChange(signed, fewest, administrator.public)


def _borne(entry: ProtocolEntry, equipment: Equipment, config: Any) -> Callable[[Sequence[int]], int]:
    """How many members may be gone for good."""
    spared = equipment.spared
    return lambda members: entry.faults(len(members)) if spared is None else spared(config, members)


def _config(equipment: Equipment, task: Task, kinds: Sequence[str]) -> Any:
    """The protocol's own for simulations; but some seeds send log entries one at a time.

    That opens windows which batches hide: figure 8 of the Raft paper needs one entry to arrive without the next.
    """
    is_one_by_one = task.seed % ONE_BY_ONE_EVERY == 0 and equipment.one_by_one is not None
    config = equipment.one_by_one if is_one_by_one else equipment.simulation
    for kind in kinds:
        if kind in equipment.variants:
            config = equipment.variants[kind](config, Random(f"{task.seed}/ordeal/{kind}/config"), task.nodes)
    return config


def traced(task: Task, sink: Callable[[str], None]) -> RunOutcome:
    """Run one task again, with a line an event."""
    return run_task(task, Trace(sink))


def run_all(tasks: Iterable[Task], jobs: int) -> Iterator[RunOutcome]:
    """Outcomes in the order of the tasks. Stop when you have seen enough: little more is run than you took."""
    if jobs == 1:
        yield from map(run_task, tasks)
        return
    rest = iter(tasks)
    # Not forked: a copy of this process might hold a lock that one of its threads has.
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        ahead = [pool.submit(run_task, task) for task in islice(rest, jobs * 4)]
        while ahead:
            done, *ahead = ahead
            ahead.extend(pool.submit(run_task, task) for task in islice(rest, 1))
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)
