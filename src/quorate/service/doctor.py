"""Doctor, with a node's configuration: whether its records, its snapshots and its protocol agree, and what helps."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import BinaryIO, Final, cast

from quorate.kernel import ROOT, Host, Record
from quorate.parts.log.replicated import Journaled, marks_of
from quorate.runtime.chance import new_seed, seeded_streams
from quorate.runtime.codec import Codec
from quorate.runtime.doctor import NOTE, OK, WRONG, Examined
from quorate.runtime.folder import NAME, OTHERS_NAME
from quorate.runtime.repair import JOURNAL, SNAPSHOTS
from quorate.runtime.snapshots import SnapshotStore
from quorate.runtime.stores import store_folder
from quorate.service.config import NodeConfig
from quorate.service.recovery import copy_tables
from quorate.service.replica import Replica
from quorate.service.server import TABLES, machine_of_config

BY_ITSELF: Final = "start it while the others run: it mends its folder, and they send what is lost"
WITH_REPAIR: Final = (
    "make sure that this is the right folder, and start it once with --repair: the other nodes send all"
)
REPLACE: Final = (
    "leave it down, or restore the folder as it was when this node ran last (its disk's image, no older backup); a new "
    "node can take its place, if the protocol has that (`quorate members`)"
)


def examine_records(found: Examined, config: NodeConfig) -> None:
    """Add what the records of a journal that is whole say: which snapshot they need, and where the log ends."""
    if not found.frames or any((one.file, one.state) == (JOURNAL, WRONG) for one in found.findings):
        return
    journal, host = found.folder / JOURNAL, thrown_away_host(config, found.anew)
    try:
        for record in _records(found, config):
            host.restore(record)
    except ValueError as error:
        found.add(journal, WRONG, f"its records cannot be read as those of {config.entry.name}: {error}")
        return
    core = host.root
    if not isinstance(core, Journaled) or found.identity is None:
        return
    found.add(journal, OK, f"the log ends at index {core.log_end}, and goes on from a snapshot at {core.stands_on}")
    snapshots, identity = found.folder / SNAPSHOTS, found.identity
    kinds = [folder for folder in (snapshots, store_folder(snapshots, marks_of(ROOT))) if folder.is_dir()]
    if core.stands_on and not any(
        info.index == core.stands_on for folder in kinds for info in SnapshotStore.view(folder, identity).infos()
    ):
        found.add(snapshots, WRONG, f"the snapshot at index {core.stands_on}, from which the journal goes on, is gone")
    if core.stands_on and not found.holder:
        _examine_state(found, config, core.stands_on)


def _examine_state(found: Examined, config: NodeConfig, index: int) -> None:
    """Start from a copy of the store's table. One that a node runs on is written all the time."""
    tables, marks = found.folder / TABLES, store_folder(found.folder / SNAPSHOTS, marks_of(ROOT))
    assert found.identity is not None, "the records were read"
    store = SnapshotStore.view(marks, found.identity)
    if not marks.is_dir() or index not in [info.index for info in store.infos()] or found.is_damaged:
        return
    try:
        with tempfile.TemporaryDirectory(prefix="quorate-doctor-") as name, store.open(index) as file:
            copy_tables(tables, Path(name) / TABLES)
            machine = machine_of_config(config, Path(name))
            try:
                Replica(machine).reopen(cast(BinaryIO, file))
            except ValueError as error:
                found.add(tables, WRONG, str(error).replace(name, str(found.folder)))
            else:
                found.add(tables, OK, f"all records up to index {index} are there")
            finally:
                machine.close()
    except OSError as error:
        found.add(tables, NOTE, f"its records could not be checked, for which a copy is made: {error}")


def thrown_away_host(config: NodeConfig, anew: bytes) -> Host:
    """One that is thrown away, of a node with this configuration."""
    entry, seed = config.entry, new_seed()
    options = entry.config() if config.options is None else config.options
    nodes = tuple(config.nodes)
    return Host(entry.make(options), config.node, nodes, seeded_streams(seed), seed=seed, incarnation=anew)


def _records(found: Examined, config: NodeConfig) -> list[Record]:
    codec, records = Codec(config.entry.core), []
    for frame in found.frames:
        records += codec.decode_records(frame)
    return records


def advice(found: Examined, config: NodeConfig | None) -> str:
    """What to do next, for a person."""
    if found.is_empty:
        return "there is no data of a node here: is its disk mounted? A new node is started once with --bootstrap"
    wrong = {finding.file for finding in found.findings if finding.state == WRONG}
    if not wrong:
        notes = any(finding.state == NOTE for finding in found.findings)
        return "nothing is damaged" + ("; see the notes" if notes else "")
    if wrong == {OTHERS_NAME}:
        return f"take the line named out of {OTHERS_NAME}: this node then knows the other one by its next call"
    if found.holder:
        return "a node runs on it, and has in memory what it needs: look after the disk, and restart it when others can"
    helps = WITH_REPAIR if NAME in wrong else BY_ITSELF
    if config is None:
        return f"with raft and multipaxos, {helps}. Otherwise {REPLACE}. Name its configuration with --config to know"
    why = thrown_away_host(config, b"repaired").root.unrepairable()
    return f"{config.entry.name} cannot mend it from the others ({why}): {REPLACE}" if why else helps
