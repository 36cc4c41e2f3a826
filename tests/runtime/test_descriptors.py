"""File descriptors: who may have how many, and a journal that finds none left."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.runtime.descriptors import DESCRIPTORS_MAX, FILES, LEAST, shares
from quorate.runtime.journal import journal
from quorate.service import server

from tests.runtime.servers import Servers
from tests.storage.helpers import Recorder, recovered, segments

RAISED = """
import resource, sys
from quorate.runtime.descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (64, int(sys.argv[1])))
print(raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize("limit", [256, 512, 1024, 4096, DESCRIPTORS_MAX])
@pytest.mark.parametrize("peers", [3, 63])
def test_connections_leave_descriptors_for_files_and_peers(limit: int, peers: int) -> None:
    found = shares(limit, peers, 4352, 128)
    assert found.clients <= 4352
    assert found.callers <= 128
    if limit > FILES + 2 * peers + 2 * LEAST + limit // 8:
        assert found.clients + found.callers + 2 * peers + FILES <= limit


def test_with_enough_descriptors_all_is_as_usual_and_with_none_somebody_is_served() -> None:
    assert shares(65_536, 5, 4352, 128) == shares(10_000, 5, 4352, 128)
    assert shares(10_000, 5, 4352, 128).clients == 4352
    assert shares(64, 63, 4352, 128).clients == shares(64, 63, 4352, 128).callers == LEAST


def test_a_node_tells_how_many_clients_it_serves_with_few_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As many as are admitted; beyond them it only has a few to whom it says that it is full."""
    monkeypatch.setattr(server, "limit_now", lambda: 256)
    limits = Servers(tmp_path, nodes=1).make(1).listener.limits
    assert limits.refusals_max > 0
    (said,) = [text for text in caplog.messages if "descriptors" in text]
    assert said.startswith(f"256 file descriptors are enough for {limits.connections_max} clients")


@pytest.mark.parametrize(("hard", "soft"), [(100, 100), (20_000, 20_000), (100_000, DESCRIPTORS_MAX)])
def test_the_soft_limit_is_raised_to_the_hard_one(hard: int, soft: int) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip(f"this process may not have {hard} descriptors, so that limit is not tested")
    command = [sys.executable, "-c", RAISED, str(hard)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": "src"})
    assert said.stdout.split() == [str(soft), str(soft), str(hard)]


@pytest.fixture
def hoard(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Descriptors to be closed; the process may have few more than it has."""
    monkeypatch.setattr(journal, "RETRY_S", 0.01)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 20, limits[1])
    )
    try:
        yield held
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def take_all(held: list[int]) -> None:
    """Leave none."""
    while True:
        try:
            held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return


@pytest.mark.parametrize("is_checkpoint", [False, True])
@pytest.mark.parametrize("left", [0, 1], ids=["none for the file", "none for its folder"])
def test_a_segment_waits_for_a_descriptor(tmp_path: Path, hoard: list[int], is_checkpoint: bool, left: int) -> None:
    folder = tmp_path / "journal"
    with Recorder(folder, segment_size_bytes=1000) as recorder:
        recorder.append(bytes(1000))
        take_all(hoard)
        for _ in range(left):
            os.close(hoard.pop())
        if is_checkpoint:
            recorder.journal.checkpoint([b"state"])
        recorder.journal.append(b"next")
        recorder.until(lambda: recorder.stalls)
        assert recorder.stalls[0] is not None
        assert recorder.stalls[0].startswith("no file descriptor is left: ")
        while hoard:
            os.close(hoard.pop())
        recorder.wait(recorder.journal.last_sequence)
        assert recorder.stalls[1:] == [None]
        assert recorder.journal.failure is None
        recorder.settle()
        assert len(segments(folder)) == 2
    assert recovered(folder) == ([b"state"] if is_checkpoint else [bytes(1000)]) + [b"next"]
