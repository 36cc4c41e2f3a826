"""`quorate doctor`: what it says of folders that are whole, damaged, empty, in use, and that it changes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.runtime import doctor
from quorate.runtime.doctor import holder_of
from quorate.runtime.files import FolderLock

from tests.cli.command import quorate
from tests.cluster import LocalCluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes that ran and stopped, and one that runs on."""
    with LocalCluster(tmp_path_factory.mktemp("doctor") / "cluster") as made:
        with made.client() as client:
            for number in range(20):
                client.put(b"key-%d" % number, b"value")
        assert made.stop_node(3) == 0
        yield made


def state(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """All that could be changed."""
    files = [path for path in folder.rglob("*") if path.is_file() and "kv" not in path.parts]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_whole_folder_and_one_in_use(cluster: LocalCluster) -> None:
    folder = cluster.data(3)
    before = state(folder)
    found = quorate("doctor", str(folder))
    assert found.code == 0, found
    assert "What to do: nothing is damaged." in found.stdout.decode()
    assert "the log ends at index" in found.stdout.decode()
    assert state(folder) == before
    running = quorate("doctor", str(cluster.data(1)), "--json")
    assert running.code == 0, running
    assert running.json["held_by"] == cluster.pid(1)
    assert running.json["damaged"] is False


def test_damage_is_named_with_the_command_that_helps(cluster: LocalCluster) -> None:
    folder = cluster.data(3)
    segment = max((folder / "journal").glob("*.journal"))
    whole = segment.read_bytes()
    data = bytearray(whole)
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    before = state(folder)
    found = quorate("doctor", str(folder), "--json")
    assert found.code == 1
    (wrong,) = [one for one in found.json["findings"] if one["state"] == "damaged"]
    assert "a frame is damaged that was durable" in wrong["text"]
    assert found.json["advice"].startswith("start it while the others run: it mends its folder")
    identity = folder / "identity"
    text = identity.read_bytes()
    identity.write_bytes(text[:-3])
    assert "--repair" in quorate("doctor", str(folder)).stdout.decode()
    identity.write_bytes(text)
    assert {path: data for path, (data, _) in state(folder).items()} == {
        path: data for path, (data, _) in before.items()
    }
    segment.write_bytes(whole)


def test_without_a_configuration_it_says_what_it_depends_on(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "identity").write_bytes(b"{}\n00000000\n")
    found = quorate("doctor", str(tmp_path))
    assert found.code == 1
    assert "with raft and multipaxos" in found.stdout.decode()
    assert "Name its configuration with --config" in found.stdout.decode()


def test_wrong_use_and_an_empty_folder(tmp_path: Path) -> None:
    assert quorate("doctor", str(tmp_path / "none")).code == 2
    found = quorate("doctor", str(tmp_path))
    assert (found.code, "is its disk mounted" in found.stdout.decode()) == (1, True)
    assert list(tmp_path.iterdir()) == [], "not even a lock was made"
    assert json.loads(quorate("doctor", str(tmp_path), "--json").stdout)["node"] is None


def test_who_holds_a_lock_is_seen_and_the_lock_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.lock"
    assert holder_of(path) == 0
    lock = FolderLock(path)
    if doctor.LOCKS.exists():
        assert holder_of(path) == os.getpid()
    lock.release()
    assert holder_of(path) == 0
    monkeypatch.setattr(doctor, "LOCKS", tmp_path / "no such system")
    assert holder_of(path) is None
