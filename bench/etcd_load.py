"""What etcd's own `benchmark` says of a cluster, and the CPU that its nodes and the tool used meanwhile."""

from __future__ import annotations

import re
import subprocess
from typing import Any, Final

from bench.etcd import Etcd
from bench.etcd_tools import EtcdTools
from bench.figures import Figures, per_operation
from bench.processes import children_cpu_seconds, cpu_seconds

KEYS: Final = 1_000_000_000
"""Of which each put takes one by chance: new ones, nearly all."""
FIRST: Final = 20
FIRST_MIN: Final = 1000
"""What the rate is learned from: so many of each client, but so many in all."""
READ_KEY: Final = "read by everybody"


class EtcdLoad:
    """One cluster under load. ``clients`` share ``connections``."""

    def __init__(self, tools: EtcdTools, cluster: Etcd, clients: int, connections: int) -> None:
        self._tool = tools.benchmark
        self._etcdctl = tools.etcdctl
        self._cluster = cluster
        self._clients = clients
        self._all = ["--endpoints", ",".join(cluster.endpoints), f"--clients={clients}", f"--conns={connections}"]

    def puts(self, seconds: float, key_bytes: int, value_bytes: int) -> Figures:
        """Of new keys, for about so long."""
        options = [f"--key-size={key_bytes}", f"--val-size={value_bytes}", f"--key-space-size={KEYS}"]
        return self._for_about(seconds, "put", *options)

    def reads(self, seconds: float, value_bytes: int, *, is_serializable: bool) -> Figures:
        """Of one key. The tool does not look at values, so it is read once by hand."""
        value = "v" * value_bytes
        self._ctl("put", READ_KEY, value)
        if self._ctl("get", READ_KEY, "--print-value-only").rstrip("\n") != value:
            raise RuntimeError("etcd does not give back what was put")
        return self._for_about(seconds, "range", READ_KEY, f"--consistency={'s' if is_serializable else 'l'}")

    def _for_about(self, seconds: float, *what: str) -> Figures:
        first = self._run(max(FIRST * self._clients, FIRST_MIN), *what)
        return self._run(max(self._clients, int(first.per_s * seconds)), *what)

    def _run(self, total: int, *what: str) -> Figures:
        nodes_s, tool_s = cpu_seconds(self._cluster.pids), children_cpu_seconds()
        done = subprocess.run([self._tool, *self._all, *what, f"--total={total}"], capture_output=True, text=True)
        nodes_s, tool_s = cpu_seconds(self._cluster.pids) - nodes_s, children_cpu_seconds() - tool_s
        rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
        if rate is None or "Error distribution" in done.stdout:
            raise RuntimeError(f"benchmark {what[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
        took: dict[str, Any] = dict(re.findall(r"(\d+(?:\.\d+)?)% in ([\d.]+) secs", done.stdout))
        slowest = re.search(r"Slowest:\s+([\d.]+)", done.stdout)
        return Figures(
            per_s=float(rate[1]),
            ms_p50=float(took["50"]) * 1000,
            ms_p99=float(took["99"]) * 1000,
            ms_max=float(slowest[1]) * 1000 if slowest else float("nan"),
            nodes_us=per_operation(nodes_s, total),
            client_us=per_operation(tool_s, total),
        )

    def _ctl(self, *arguments: str) -> str:
        command = [self._etcdctl, "--endpoints", self._cluster.endpoints[0], *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
