"""Recovery: a new cluster of one node, made of what one node has whose cluster lost its majority for good.

How it works. The node's folder is opened as at a start, and stays as it is. All of its log is applied to a state
machine, whether it is known to be decided or not, since others may have told clients that it is. Then a folder of
another name is written that begins with that state. The new cluster has a name of its
own, so that no node of the old one is ever taken for one of it; sessions go on, so that a command that a client sends
again takes effect once.

This is no consensus. What the other nodes decided and this one never heard of is lost, and if they come back there are
two histories. Whoever asks for it is told so (``cli/recover.py``).

``founding.py`` writes the folder.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

import msgspec

from quorate.kernel import ROOT, Core, Host, Key, Port, Requester
from quorate.kernel import Path as CorePath
from quorate.machines.kv.revisions import KEPT, SUFFIX
from quorate.machines.state_machine import StateMachine
from quorate.parts.log.configuration import Reconfigurable
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Decided, Restored, Survivor, marks_of
from quorate.runtime.chance import new_seed, seeded_streams
from quorate.runtime.codec import Codec
from quorate.runtime.files import Identity, make_directory
from quorate.runtime.folder import Beginning, DataFolder
from quorate.runtime.journal import Journal
from quorate.runtime.marks import Marks
from quorate.runtime.stores import SnapshotStores
from quorate.service.config import NodeConfig
from quorate.service.config_text import toml_of
from quorate.service.founding import Footing, found_folder
from quorate.service.joining import CONFIG_NAME
from quorate.service.replica import Replica
from quorate.service.server import TABLES, kv_machine
from quorate.service.staging import STAGE

APPLIED_AT_ONCE: Final = 1024
NAME_CHARACTERS_MAX: Final = 60
HEAD: Final = (
    "The configuration of a cluster of one node, made by `quorate recover` of what a node of cluster {old!r} had.\n"
    "The nodes of that cluster are none of this one: never start them again."
)


class CannotRecover(ValueError):
    """There is no way; the text says why, and what to do instead."""


class Survey(NamedTuple):
    """What a node has. ``known_index``: up to there its log is known to be decided; ``last_index``: where it ends.

    ``others``: all other nodes that its configuration or its log names, those that have left too.
    """

    config: NodeConfig
    others: tuple[int, ...]
    snapshot_index: int
    snapshot_term: int
    known_index: int
    entries: tuple[Entry, ...]
    """After the snapshot."""

    @property
    def last_index(self) -> int:
        """Where its log ends."""
        return self.snapshot_index + len(self.entries)

    @property
    def last_term(self) -> int:
        """The term of the last entry."""
        return self.entries[-1].term if self.entries else self.snapshot_term


def begin_with_one(
    config: NodeConfig,
    out: Path,
    may: Callable[[Survey, str], bool],
    machine: Callable[[Path], StateMachine] = kv_machine,
) -> NodeConfig | None:
    """Begin a new cluster with what the node of this configuration has; its configuration, also in ``out/node.toml``.

    ``may`` is given what there is and the new cluster's name, and says whether to go on; None where it says no.
    Raises CannotRecover, StorageError, OSError.
    """
    if not issubclass(config.entry.core, Survivor):
        raise CannotRecover(_why_not(config))
    if config.ledger is not None:
        raise CannotRecover("the chain of a ledger has its cluster's name, and so no other cluster goes on with it")
    if out.exists():
        raise CannotRecover(f"{out} is there already: name a folder that is not, with --out")
    identity = Identity(config.cluster, config.node)
    folder = DataFolder(config.data, identity, Beginning.EXISTING)
    journal, frames = Journal.open(config.data / "journal", identity=identity, lock=folder.lock)
    try:
        folder.settle(journal.last_sequence)
        stores = SnapshotStores(config.data / "snapshots", identity)
        found = _survey(config, frames, folder.anew)
        name = f"{config.cluster[:NAME_CHARACTERS_MAX]}-{secrets.token_hex(4)}"
        return _write(found, _alone(config, name, out), stores, machine) if may(found, name) else None
    finally:
        folder.close()
        journal.close()


def _survey(config: NodeConfig, frames: Sequence[bytes], anew: bytes) -> Survey:
    entry, codec, seed = config.entry, Codec(config.entry.core), new_seed()
    options = entry.config() if config.options is None else config.options
    host = Host(
        *(entry.make(options), config.node, tuple(config.nodes), seeded_streams(seed)), seed=seed, incarnation=anew
    )
    try:
        for frame in frames:
            for record in codec.decode_records(frame):
                host.restore(record)
        outputs = host.start(0.0).outputs
        core = host.root
        assert isinstance(core, Survivor)
        entries = tuple(core.surviving())
    except ValueError as error:
        raise CannotRecover(f"{config.data}: {error}: choose another node to begin anew with") from None
    restored = next((value for value in outputs if isinstance(value, Restored)), Restored(0, 0))
    known = host.root.standing().commit_index or 0
    return Survey(config, _others(config, core), restored.index, restored.term, known, entries)


def _others(config: NodeConfig, core: Core) -> tuple[int, ...]:
    """The file that a node was begun with knows of none that joined later."""
    nodes = set(config.nodes)
    if isinstance(core, Reconfigurable):
        voters = core.acting()
        nodes.update(voters.members, voters.next_members, (place.node for place in core.places()))
    return tuple(sorted(nodes - {config.node}))


def _alone(config: NodeConfig, name: str, out: Path) -> NodeConfig:
    """The same node as the only one of another cluster. What names other nodes is as if nothing had been said."""
    options, usual = config.options, config.entry.config()
    if options is not None:
        names = [name for name in ("founders", "members", "quorum") if name in options.__struct_fields__]
        options = msgspec.structs.replace(options, **{name: getattr(usual, name) for name in names})
    nodes = {config.node: config.nodes[config.node]}
    return msgspec.structs.replace(config, cluster=name, nodes=nodes, options=options, data=out)


def _write(
    found: Survey, config: NodeConfig, stores: SnapshotStores, machine: Callable[[Path], StateMachine]
) -> NodeConfig:
    def writes(folder: Path) -> Callable[[BinaryIO], None]:
        if stores(marks_of(ROOT)).infos():
            copy_tables(found.config.data / TABLES, folder / TABLES)
        return _applied(found, stores, machine(folder))

    is_empty = not found.last_index
    footing = None if is_empty else Footing(found.last_index, found.last_term, (config.node,), writes)
    text = toml_of(config, HEAD.format(old=found.config.cluster), Path(), None)
    found_folder(config, footing, [(CONFIG_NAME, text.encode())])
    return config


def copy_tables(old: Path, new: Path) -> None:
    """What the marks of the old folder lead to; that stays as it is, as it may be all that is left."""
    make_directory(new)
    for table in old.glob(f"{KEPT}*{SUFFIX}"):
        shutil.copyfile(table, new / table.name)


def _applied(found: Survey, stores: SnapshotStores, machine: StateMachine) -> Callable[[BinaryIO], None]:
    """What writes the state after all entries; it closes the machine, whose working files nobody needs then."""
    machine.open()
    replica = Replica(machine)
    replica.port = _Nowhere()
    if found.snapshot_index:
        _, reopened = Marks(stores, replica).find(ROOT, found.snapshot_index)
        if reopened is not None:
            reopened()
        else:
            with stores().open(found.snapshot_index) as file:
                replica.restore(cast(BinaryIO, file))()
    for start in range(0, len(found.entries), APPLIED_AT_ONCE):
        some = list(found.entries[start : start + APPLIED_AT_ONCE])
        replica.output(Decided(found.snapshot_index + start + 1, some))
        while replica.is_midway:
            replica.on_timer(STAGE)
    write = replica.snapshot()

    def write_and_close(file: BinaryIO) -> None:
        write(file)
        machine.close()

    return write_and_close


class _Nowhere(Port):
    """The Port of a Replica that has no core: nobody waits, and its steps are taken as they come."""

    def submit(self, values: Sequence[bytes], path: CorePath = ROOT) -> None:
        pass

    def ask(self, tokens: Sequence[int], path: CorePath = ROOT) -> None:
        pass

    def reply(self, client: Requester, response: object) -> None:
        pass

    def set_timer(self, key: Key, delay_s: float) -> None:
        pass

    def cancel_timer(self, key: Key) -> None:
        pass

    @property
    def wall_ns(self) -> int:
        return 0


def _why_not(config: NodeConfig) -> str:
    name = config.entry.name
    if config.entry.traits.is_byzantine:
        return (
            f"the nodes of {name} may lie, and what one of them has proves nothing: read the data out of it with "
            "`quorate get --serializable --faults 0`, judge it, and put it into a new cluster"
        )
    return f"{name} cannot begin anew with what one node has: read the data out of it, and put it into a new cluster"
