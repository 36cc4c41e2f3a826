"""`quorate node` on a disk that hangs: SIGTERM ends the process, and the log says what was not written."""

import signal
import sys
from pathlib import Path

import pytest

from quorate.service.client.errors import OutcomeUnknown

from tests.cluster import LocalCluster, until

HANGS = """
import os, signal, sys
from pathlib import Path
from tests.hanging import CALLS, HangingDisk
from quorate.cli import node as module
from quorate.cli.main import main
from quorate.runtime.journal import journal

journal.CLOSE_S_MAX = 0.3
module.START_GRACE_S = 0.3
disk = HangingDisk(Path(sys.argv.pop(1)))
for name in CALLS:
    setattr(os, name, disk.watched(getattr(os, name)))
signal.signal(signal.SIGUSR1, lambda *_: disk.hang())
if os.environ.get("HANGS"):
    disk.hang()
main()
"""
"""`quorate`, with a disk that hangs from SIGUSR1 on, or from the start."""


class HangingNode(LocalCluster):
    """One node, whose disk can hang or is well."""

    can_hang = True

    def command(self, node: int) -> list[str]:
        command = super().command(node)
        if not self.can_hang:
            return command
        return [sys.executable, "-c", HANGS, str(self.data(node) / "journal"), *command[command.index("quorate") + 1 :]]


def test_a_node_ends_while_its_disk_hangs(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    with HangingNode(tmp_path / "single", nodes=1, env={"PYTHONPATH": f"{root}/src:{root}"}) as single:
        with single.client(timeout_s=0.3) as client:
            client.put(b"k", b"1")
            single.processes[1].send_signal(signal.SIGUSR1)
            with pytest.raises(OutcomeUnknown):
                client.put(b"k", b"2")
        assert single.stop_node(1) == 1
        log = single.log(1)
        for words in ("could not stop in order", "bytes up to frame", "were not written"):
            assert words in log
        assert log.splitlines()[-1].endswith('msg="the process ends without a thread that waits for the disk"')
        single.can_hang = False
        single.start()
        with single.client() as client:
            assert client.get(b"k").value in (b"1", b"2")


def test_a_node_that_cannot_start_on_a_disk_that_hangs_ends(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    env = {"PYTHONPATH": f"{root}/src:{root}", "HANGS": "1"}
    cluster = HangingNode(tmp_path / "single", nodes=1, env=env)
    try:
        cluster.start_node(1, wait=False)
        until(lambda: (cluster.data(1) / "journal" / "journal.lock").exists(), "it is about to read its journal")
        assert cluster.stop_node(1) == 1
        assert "stopped before it had started: its files are still being read" in cluster.log(1)
    finally:
        cluster.close()
