"""Four validators of CometBFT 0.38 on this machine, each with its built-in kvstore, by `cometbft testnet`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.etcd import free_ports

NODES: Final = 4
BINARY: Final = os.environ.get("COMETBFT") or shutil.which("cometbft")
HOW: Final = "go install github.com/cometbft/cometbft/cmd/cometbft@v0.38.26, and name it in COMETBFT or PATH"
LOOPBACK: Final = {
    "p2p.addr_book_strict": "false",
    "p2p.allow_duplicate_ip": "true",
    "p2p.pex": "false",
    "log_level": '"error"',
    "proxy_app": '"kvstore"',
    "rpc.pprof_laddr": '""',
}
"""What four nodes at one address need, whatever is measured."""
TUNED: Final = {
    "consensus.timeout_commit": '"0s"',
    "consensus.skip_timeout_commit": "true",
    "consensus.create_empty_blocks": "false",
    "consensus.peer_gossip_sleep_duration": '"5ms"',
    "p2p.flush_throttle_timeout": '"5ms"',
    "mempool.size": "20000",
}
"""Blocks as fast as they come, and the two sleeps of its gossip short: the settings that gave the best latency here."""


@contextmanager
def cluster(settings: Mapping[str, str]) -> Iterator[CometBFT]:
    """A fresh one, with these beside its defaults; its data is removed at the end. Raises RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="bench-comet-") as folder:
        comet = CometBFT(Path(folder), settings)
        try:
            yield comet
        finally:
            comet.stop()


class CometBFT:
    """The processes. ``urls`` are where their RPC is."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        command = ("testnet", "--v", str(NODES), "--o", str(folder), "--populate-persistent-peers=false")
        self._run(*command)
        homes = [folder / f"node{number}" for number in range(NODES)]
        names = [self._run("show-node-id", "--home", str(home)).strip() for home in homes]
        ports = free_ports(2 * NODES)
        peers = [f"{name}@127.0.0.1:{port}" for name, port in zip(names, ports[:NODES], strict=True)]
        self.ports = ports[NODES:]
        for number, home in enumerate(homes):
            own = {
                "p2p.laddr": f'"tcp://127.0.0.1:{ports[number]}"',
                "rpc.laddr": f'"tcp://127.0.0.1:{self.ports[number]}"',
                "p2p.persistent_peers": f'"{",".join(peers[:number] + peers[number + 1 :])}"',
            }
            config = home / "config" / "config.toml"
            config.write_text(edited(config.read_text(), {**LOOPBACK, **settings, **own}))
        with (folder / "log").open("ab") as log:
            self._processes = [
                subprocess.Popen([str(BINARY), "start", "--home", str(home)], stdout=log, stderr=log) for home in homes
            ]

    @property
    def pids(self) -> list[int]:
        """Of the nodes; the apps are in them."""
        return [process.pid for process in self._processes]

    def stop(self) -> None:
        """Kill them."""
        for process in self._processes:
            process.kill()
            process.wait()

    def _run(self, *arguments: str) -> str:
        finished = subprocess.run([str(BINARY), *arguments], capture_output=True, text=True)
        if finished.returncode != 0:
            raise RuntimeError(f"{BINARY} {arguments[0]}: {finished.stderr.strip()}")
        return finished.stdout


def edited(toml: str, settings: Mapping[str, str]) -> str:
    """The text with these values, by section and key. Raises RuntimeError for one that is not there."""
    lines, section, left = toml.split("\n"), "", dict(settings)
    for number, line in enumerate(lines):
        if found := re.fullmatch(r"\[(.+)\]", line.strip()):
            section = f"{found[1]}."
        key = f"{section}{line.partition('=')[0].strip()}"
        if key in left:
            lines[number] = f"{line.partition('=')[0].rstrip()} = {left.pop(key)}"
    if left:
        raise RuntimeError(f"this CometBFT has no settings {', '.join(left)}")
    return "\n".join(lines)
