"""Host names whose look-up hangs, below real processes: the system's resolver does not answer for the names of some.

In the fast tests: test_node_addresses.py and test_names.py, with a resolver that is a function.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quorate.cli.folder import PEER_PORTS_ABOVE, Layout

from tests.cluster import SOURCE, LocalCluster, environment, until

pytestmark = [pytest.mark.torture, pytest.mark.slow]

HANGS_S = 40
LIVING, NODES = 4, 7
FILL_S = 15.0
"""So long the names of the dead are dialled; then every thread that look-ups shared would wait for the resolver."""
STOP_S_MAX = 5.0
CALL_S_MAX = 15.0
"""A command that waits for the resolver takes longer than ``HANGS_S``."""

RESOLVER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  if (name != NULL && strncmp(name, "hangs", 5) == 0) {
    sleep(HANGS_S);
    return EAI_AGAIN;
  }
  return ((resolver *)dlsym(RTLD_NEXT, "getaddrinfo"))(name, service, hints, found);
}
"""

CALLS = """
import asyncio, sys
from quorate import AsyncClient, Client
endpoints = sys.argv[1:]
with Client(endpoints, timeout_s=10.0) as client:
    client.put(b"k", b"1")
async def main():
    async with AsyncClient(endpoints, timeout_s=10.0) as client:
        print((await client.get(b"k")).value)
        print(await asyncio.to_thread(lambda: 7))
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def resolver(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which names that begin with "hangs" are not answered."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler, or not Linux: a resolver that hangs below a process is not tested")
    folder = tmp_path_factory.mktemp("resolver")
    (folder / "resolver.c").write_text(RESOLVER)
    library = folder / "resolver.so"
    command = [compiler, "-shared", "-fPIC", f"-DHANGS_S={HANGS_S}", "-o", library, folder / "resolver.c", "-ldl"]
    subprocess.run(command, check=True)
    return {"LD_PRELOAD": str(library)}


class NamedLayout(Layout):
    """The nodes that will live have a name that is known, the others names that hang."""

    def peer(self, node: int) -> str:
        host = "localhost" if node <= LIVING else f"hangs{node}"
        return f"{host}:{self.base_port + PEER_PORTS_ABOVE + node}"


class LivingCluster(LocalCluster):
    """Of its nodes only the first are ever started."""

    layout_type = NamedLayout

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        super().__init__(folder, NODES, env=env)
        self.ids = range(1, LIVING + 1)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_names_of_dead_nodes_that_hang_cost_the_living_nothing(
    tmp_path: Path, resolver: dict[str, str], loop: str
) -> None:
    if loop == "asyncio":
        without = tmp_path / "without"
        (without / "uvloop").mkdir(parents=True)
        (without / "uvloop" / "__init__.py").write_text("raise ImportError('not wanted here')\n")
        resolver = {**resolver, "PYTHONPATH": f"{without}:{SOURCE}"}
    with LivingCluster(tmp_path / "nodes", resolver) as cluster:
        with cluster.client(timeout_s=10.0) as client:
            until_s = time.monotonic() + FILL_S
            while time.monotonic() < until_s:
                client.put(b"k", b"1")
            follower = next(node for node in cluster.ids if node != cluster.leader())
            cluster.restart(follower)  # all four are needed to commit, so the links to it and from it come back
            client.put(b"k", b"2")
        for node in cluster.ids:
            began = time.monotonic()
            assert cluster.stop_node(node) == 0
            assert time.monotonic() - began < STOP_S_MAX, f"node {node} waited for the resolver"


def test_clients_wait_for_no_name_that_hangs_neither_in_a_call_nor_at_their_end(
    tmp_path: Path, resolver: dict[str, str]
) -> None:
    with LocalCluster(tmp_path, 1) as cluster:
        endpoints = ["hangs:1", *cluster.endpoints]
        for command, said in (
            ([sys.executable, "-c", CALLS, *endpoints], b"b'1'\n7\n"),
            ([sys.executable, "-m", "quorate", "get", "k", "--endpoints", ",".join(endpoints)], b"1\n"),
        ):
            began = time.monotonic()
            done = subprocess.run(
                command, env=environment(**resolver), capture_output=True, timeout=4 * HANGS_S, check=False
            )
            assert (done.stdout, done.stderr, done.returncode) == (said, b"", 0)
            assert time.monotonic() - began < CALL_S_MAX


def test_a_node_waits_for_no_name_that_hangs_when_it_ends_before_it_has_a_leader(
    tmp_path: Path, resolver: dict[str, str]
) -> None:
    cluster = LivingCluster(tmp_path, resolver)
    try:
        cluster.start_node(1)
        until(lambda: "hangs5" in cluster.log(1), "it has looked for another")
        began = time.monotonic()
        assert cluster.stop_node(1) == 0
        assert time.monotonic() - began < STOP_S_MAX
    finally:
        cluster.close()
