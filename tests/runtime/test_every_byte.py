"""Each byte of each file of a small data folder is changed, cut off or gone: what a start and the doctor make of it.

A start mends the folder, or refuses it in words that name the file and what helps, or nothing was lost. It never goes
on with other data, and ends in no traceback. The doctor sees what a start sees, and changes nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from quorate.machines.kv.machine import KvMachine
from quorate.protocols.raft import RaftConfig
from quorate.runtime import node
from quorate.runtime.codec import Codec
from quorate.runtime.doctor import examine
from quorate.runtime.errors import SnapshotCorrupt, StorageError
from quorate.runtime.files import Identity
from quorate.runtime.folder import Beginning
from quorate.runtime.marks import Marks
from quorate.runtime.opening import Opened, Opening
from quorate.runtime.repair import check_snapshot
from quorate.service.config import NodeConfig
from quorate.service.doctor import advice, examine_records, thrown_away_host
from quorate.service.replica import Replica

from tests.runtime.servers import run, servers, until
from tests.runtime.test_lost_folders import acquainted, put
from tests.storage.helpers import MEMORY

OPTIONS = RaftConfig(heartbeat_s=0.04, election_timeout_s_min=0.2, snapshot_entries=20, keep_entries=2)
WHOLE, MENDED, REFUSED, ENDED = "nothing was lost", "mended", "refused", "ended, and the next start mends"
FIELDS = (0, 8, 9, 12, 24, 44, 48, 252, 256, 260, 264, 272, 280)
"""Where the fields of segments, of frames and of snapshots begin."""
HELPS = ("--repair", "Restore the file", "Take it out", "Start the release that wrote it")


class Base(NamedTuple):
    """A folder that was stopped in order: its files, and what is in its log."""

    folder: Path
    config: NodeConfig
    files: tuple[str, ...]
    log: list[Any]
    first: int
    others: dict[int, tuple[bytes, ...]]


@pytest.fixture(scope="module")
def base() -> Iterator[Base]:
    """Of one node of three, with a journal, snapshots, an identity and the incarnations of the others."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)

        async def main() -> NodeConfig:
            async with servers(folder, options=OPTIONS) as cluster:
                await put(cluster, 60)
                await acquainted(cluster)
                await until(lambda: list((folder / "n2" / "snapshots").rglob("*.snap")))
                await put(cluster, 7, 100)
                await cluster.converged()
                return msgspec.structs.replace(cluster.config, node=2, data=folder / "n2")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(node, "CHECKPOINT_AFTER_BYTES", 1500)
            config = run(main())
        files = [path.relative_to(folder / "n2") for path in sorted((folder / "n2").rglob("*")) if path.is_file()]
        kept = tuple(str(path) for path in files if path.parts[0] != "kv" and path.suffix != ".lock")
        opened = start(folder / "n2", config)
        log, first = log_of(opened)
        assert opened.host.root.stands_on, "else damage of snapshots would not matter"  # type: ignore[attr-defined]
        others = dict(opened.folder.others)
        opened.close()
        yield Base(folder / "n2", config, kept, log, first, others)


def start(folder: Path, config: NodeConfig) -> Opened:
    """As a node does, up to where it would meet the others."""
    opening = Opening(
        *(folder, Identity(config.cluster, config.node), Codec(config.entry.core)),
        lambda records, anew: thrown_away_host(config, anew),
        Replica(KvMachine(folder / "kv")),
        why_not_forget=lambda: "",
        on_durable=lambda sequence: None,
        on_stall=lambda why: None,
    )
    return opening.open(Beginning.EXISTING)


def log_of(opened: Opened) -> tuple[list[Any], int]:
    """The entries that a core has, and the index of the first."""
    log = opened.host.root.log  # type: ignore[attr-defined]
    return log.slice(log.base_index + 1, log.last_index), log.base_index + 1


def outcome(base: Base, folder: Path) -> str:
    """Of a start. Fails if it would go on with other data."""
    machine = KvMachine(folder / "kv")
    try:
        opened = start(folder, base.config)
    except StorageError as error:
        text = str(error)
        assert str(folder) in text, text
        assert any(word in text for word in HELPS), text
        return REFUSED
    try:
        found, first = log_of(opened)
        is_anew = bool(opened.folder.anew)
        assert opened.folder.others.items() <= base.others.items(), "it takes another node for a stranger"
        try:
            check_snapshot(opened.host, Marks(opened.stores, Replica(machine)))
        except SnapshotCorrupt:
            return ENDED
    finally:
        machine.close()
        opened.close()
    if is_anew:
        skip = first - base.first
        assert found == (base.log[skip : skip + len(found)] if skip >= 0 else found), "it keeps what it never had"
        return MENDED
    assert (found, first) == (base.log, base.first), "it goes on with other data"
    return WHOLE


def look(base: Base, folder: Path) -> tuple[bool, str]:
    """Whether the doctor finds damage, and what it says helps. Nothing may change."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = examine(folder, Identity(base.config.cluster, base.config.node))
    examine_records(found, base.config)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    return found.is_damaged, advice(found, base.config)


def attempt(base: Base, folder: Path, name: str, how: str, offset: int) -> str:
    """One damage: what a start made of it, which the doctor must have foreseen."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base.folder, folder)
    path = folder / name
    if how == "flip":
        data = bytearray(path.read_bytes())
        data[offset] ^= 0x41
        path.write_bytes(data)
    elif how == "cut":
        os.truncate(path, offset)
    else:
        path.unlink()
    is_damaged, helps = look(base, folder)
    made = outcome(base, folder)
    what = f"{name}: {how} at {offset}: {made}; the doctor: {helps}"
    if made == ENDED:
        assert outcome(base, folder) == MENDED, what
    assert is_damaged or made == WHOLE, what
    if made == REFUSED:
        assert "--repair" in helps or "take the line" in helps, what
    elif made != WHOLE:
        assert "mends its folder" in helps, what
    return made


def harms(base: Base, stride: int) -> Iterator[tuple[str, str, int]]:
    """File, what happens to it, and where: the fields of headers, and the rest in steps."""
    for name in base.files:
        size = (base.folder / name).stat().st_size
        step = min(stride, 1 + size // 12)
        for offset in sorted({*range(0, size, step), *(field for field in FIELDS if field < size), size - 1}):
            yield name, "flip", offset
        for offset in range(0, size, step * 4):
            yield name, "cut", offset
        yield name, "delete", 0


def check(base: Base, stride: int) -> Counter[str]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        return Counter(attempt(base, Path(name) / "n2", *harm) for harm in harms(base, stride))


def test_a_sample_of_all_damage_is_mended_or_refused_in_words(base: Base) -> None:
    found = check(base, 151)
    assert set(found) == {WHOLE, MENDED, REFUSED, ENDED}, found


@pytest.mark.slow
def test_all_damage_is_mended_or_refused_in_words(base: Base) -> None:
    found = check(base, 5)
    assert set(found) == {WHOLE, MENDED, REFUSED, ENDED}, found


@pytest.mark.parametrize("how", ["gone", "cut", "a record"])
def test_the_doctor_looks_at_what_a_mark_leads_to(base: Base, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "n2"
    shutil.copytree(base.folder, folder)
    (table,) = (folder / "kv").glob("store-*.lmdb")
    if how == "gone":
        table.unlink()
    elif how == "cut":
        os.truncate(table, table.stat().st_size // 2)
    else:
        data = table.read_bytes()
        table.write_bytes(data.replace(b"v1", b"V1"))
        assert table.read_bytes() != data
    is_damaged, helps = look(base, folder)
    assert is_damaged, how
    assert "mends its folder" in helps


def test_the_doctor_finds_nothing_wrong_with_a_whole_folder_and_says_what_an_empty_one_is(
    base: Base, tmp_path: Path
) -> None:
    assert look(base, base.folder) == (False, "nothing is damaged")
    (tmp_path / "journal").mkdir()
    found = examine(tmp_path)
    assert found.is_empty
    assert "is its disk mounted" in advice(found, None)
