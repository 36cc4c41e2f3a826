"""`quorate up`: a cluster of real processes on this machine, in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from quorate.cli.common import DEFAULT_ENDPOINTS_TEXT, Code, fail, print_json
from quorate.cli.folder import (
    BASE_PORT_DEFAULT,
    RPC_PORT_DEFAULT,
    TREASURY_FILE,
    ClusterFolder,
    FolderError,
    check_ports,
)
from quorate.cli.processes import STOP_GRACE_S, NodeProcess, Processes
from quorate.service.client.aio import AsyncClient
from quorate.service.client.errors import QuorateError
from quorate.service.comet.rpc_needs import why_unavailable
from quorate.service.config import NodeConfig
from quorate.service.requests import Status

READY_TIMEOUT_S: Final = 60.0
ALL_KNOW_S: Final = 10.0
"""How long to wait for every node to know a leader. From then on most are enough, if they serve: a node of PBFT that
went on to a later view alone knows none until the others get there."""
POLL_S: Final = 0.05
DATA_DEFAULT: Final = Path("data")


AppOption = Annotated[
    str | None,
    typer.Option(
        "--app",
        metavar="APP",
        help="ABCI app that the nodes drive (tendermint): kvstore, or an address such as tcp://127.0.0.1:{port}.",
        show_default="none, or what the folder has",
    ),
]
LedgerOption = Annotated[
    bool, typer.Option("--ledger", help="The nodes keep a ledger of payments in place of keys and values.")
]
RPCPortOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="CometBFT's RPC of n1 at this port, of each further node 10 higher; 0: none. Only with tendermint.",
        show_default=f"{RPC_PORT_DEFAULT} with --app, or what the folder has; else none",
    ),
]
NoRPCOption = Annotated[bool, typer.Option("--no-rpc", help="The same as --rpc-port 0.")]


def up(
    nodes: Annotated[
        int | None,
        typer.Option(min=1, help="How many.", show_default="3 (4 where they may lie), or as many as the folder has"),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="How they agree.", show_default="raft, or what the folder's cluster speaks")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The cluster's folder; a restart finds its data there.", show_default="data")
    ] = None,
    base_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Clients of node i at this + i, its peers at this + 100 + i.",
            show_default=f"{BASE_PORT_DEFAULT}, or what the folder has",
        ),
    ] = None,
    app: AppOption = None,
    ledger: LedgerOption = False,
    rpc_port: RPCPortOption = None,
    no_rpc: NoRPCOption = False,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="A temporary folder, removed at the end.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print events, one JSON object a line.")] = False,
) -> None:
    """Run a cluster of real processes on this machine until Ctrl-C or SIGTERM.

    Example:  quorate up --nodes 5 --data /tmp/five

    Prints "cluster ready" when a leader serves. A node that dies is reported; the others stay. Nodes log to
    DIR/n1.log, DIR/n2.log, ... With --json the events are {"event": "ready", "endpoints", "nodes", ...},
    {"event": "node_ended", "name", "exit_code", "log", ...} and {"event": "stopped"}.

    With --app the nodes of a tendermint cluster drive an ABCI 0.38 app: `kvstore`, which is built in, or one app for
    each node, at an address with {port} (26658 for n1, 26668 for n2, ...) or {node} (1, 2, ...) in it. Start the apps
    first. "cluster ready" then means that the first block is decided. Each node serves CometBFT's RPC, for which
    `pip install 'quorate[comet]'` brings what it needs; its address is in the line of the node ("rpc" with --json).

    With --ledger the nodes of a new cluster keep a chain of payments (`quorate chain`). All money is at first in the
    wallet DIR/treasury.wallet, whose password is that in QUORATE_WALLET_PASSWORD, or none.

    Example:  quorate up --protocol tendermint --nodes 4 --app 'tcp://127.0.0.1:{port}'

    Exit code: 0 stopped as asked, 1 all nodes died, 2 wrong use (ports taken, another cluster's folder), 3 no leader
    within a minute.
    """
    if ephemeral and data is not None:
        fail("--ephemeral and --data exclude each other", Code.WRONG_USE)
    if ledger and app:
        fail("--ledger and --app exclude each other", Code.WRONG_USE)
    with _chosen_folder(data, ephemeral) as path:
        try:
            folder = ClusterFolder(path, nodes, protocol, base_port, app, _chosen_rpc(rpc_port, no_rpc), ledger)
        except FolderError as error:
            fail(str(error), Code.WRONG_USE)
        try:
            # The nodes of an `up` that was killed have a moment to notice and to stop.
            check_ports(folder.configs, 0.0 if folder.is_new else STOP_GRACE_S / 2)
            report = _Reporter(folder, json, ephemeral)
            if (note := _on_faults(folder)) is not None:
                report.say(note)
            code = asyncio.run(_run(folder, report))
        except FolderError as error:
            fail(str(error), Code.WRONG_USE)
        finally:
            folder.close()
    raise typer.Exit(code)


def _chosen_rpc(rpc_port: int | None, no_rpc: bool) -> int | None:
    if no_rpc and rpc_port:
        fail("--rpc-port and --no-rpc exclude each other", Code.WRONG_USE)
    if rpc_port and (why := why_unavailable()):
        fail(f"--rpc-port: {why}", Code.WRONG_USE)
    return 0 if no_rpc else rpc_port


@contextlib.contextmanager
def _chosen_folder(data: Path | None, ephemeral: bool) -> Iterator[Path]:
    if not ephemeral:
        yield data or DATA_DEFAULT
        return
    path = Path(tempfile.mkdtemp(prefix="quorate-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _on_faults(folder: ClusterFolder) -> str | None:
    """What is to be said of a protocol that bears lying nodes, but not with so few."""
    config = folder.configs[0]
    nodes = len(config.nodes)
    if not config.entry.traits.is_byzantine or config.entry.faults(nodes):
        return None
    return f"note: {nodes} nodes bear no lying node, 4 bear one. For that: quorate up --nodes 4, in another folder"


async def _run(folder: ClusterFolder, report: _Reporter) -> Code:
    """The life of the cluster."""
    stop, hurry = _on_signals()
    async with Processes(folder.config_path) as processes:
        try:
            for config in folder.configs:
                await processes.spawn(config.node, folder.log_path(config.node), folder.begins)
        except OSError as error:
            fail(f"a node cannot be started: {error}", Code.FAILED)
        code = await _watch(processes, folder, report, stop)
        with report.waiting("stopping"):
            for late in await processes.stop(hurry.wait()):
                report.say(f"{late.name} did not stop in time and was killed")
        report.stopped()
    return code


async def _watch(processes: Processes, folder: ClusterFolder, report: _Reporter, stop: asyncio.Event) -> Code:
    """Report what happens, until the cluster should be stopped; why, as an exit code."""
    stopping = asyncio.ensure_future(stop.wait())
    serving = asyncio.ensure_future(_wait_until_it_serves(processes, folder.endpoints, folder.configs[0]))
    pending: set[asyncio.Future[Any]] = {stopping, serving, *(node.ended for node in processes.nodes)}
    waiting = contextlib.ExitStack()
    waiting.enter_context(report.waiting("waiting for a leader"))
    with waiting:
        while True:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if stopping in done:
                serving.cancel()
                return Code.OK
            for node in processes.nodes:
                if node.ended in done:
                    report.ended(node)
            if not processes.living:
                serving.cancel()
                report.say("all nodes have ended")
                return Code.FAILED
            if serving in done:
                waiting.close()
                if (statuses := serving.result()) is None:
                    logs = folder.path / "n*.log"
                    report.say(f"no leader serves after {READY_TIMEOUT_S:g} s; see {logs}. Stopping")
                    return Code.UNAVAILABLE
                report.ready(processes.living, statuses)


async def _wait_until_it_serves(
    processes: Processes, endpoints: list[str], config: NodeConfig
) -> dict[int, Status] | None:
    """A linearizable read is answered, and every living node knows a leader, or most do after a while.

    With an app: they are beyond the first height.

    The nodes that answered; None where it takes too long.
    """
    loop = asyncio.get_running_loop()
    has_app = bool(config.app)
    all_know_until = loop.time() + ALL_KNOW_S
    try:
        async with asyncio.timeout(READY_TIMEOUT_S), AsyncClient(endpoints, timeout_s=READY_TIMEOUT_S) as client:
            while True:
                found = {status.node: status for _, status in await client.statuses() if isinstance(status, Status)}
                led = {
                    node
                    for node, status in found.items()
                    if status.leader is not None and (not has_app or status.term > 1)
                }
                all_know = all(node.node in led for node in processes.living)
                if all_know or (2 * len(led) > len(endpoints) and loop.time() > all_know_until):
                    if config.ledger is not None:
                        from quorate.machines.chain.chain_messages import AskHead, encode_chain

                        await client.query(encode_chain(AskHead()))
                    elif not has_app:
                        await client.range(b"\0", limit=1, keys_only=True)
                    return found
                await asyncio.sleep(POLL_S)
    except (TimeoutError, QuorateError):
        return None


def _on_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Two events: the first signal (stop), the second (at once)."""
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    return stop, hurry


class _Reporter:
    """Says what happens: as text to a person, or as a line of JSON an event."""

    def __init__(self, folder: ClusterFolder, json: bool, ephemeral: bool) -> None:
        self._folder = folder
        self._json = json
        self._ephemeral = ephemeral

    def waiting(self, what: str) -> contextlib.AbstractContextManager[Any]:
        """A spinner, where there is somebody to see it."""
        if not sys.stderr.isatty():
            return contextlib.nullcontext()
        from rich.console import Console

        return Console(stderr=True).status(what)

    def say(self, text: str) -> None:
        """For a person, whatever the output."""
        typer.echo(text, err=True)

    def ready(self, nodes: Sequence[NodeProcess], statuses: dict[int, Status]) -> None:
        """A leader serves."""
        endpoints = self._folder.endpoints
        client = {config.node: config.nodes[config.node].client for config in self._folder.configs}
        rows = [
            {
                "name": node.name,
                "role": statuses[node.node].role,
                "endpoint": client[node.node],
                "rpc": self._rpc(node.node),
                "pid": node.pid,
                "log": str(node.log_path),
            }
            for node in nodes
            if node.node in statuses
        ]
        if self._json:
            first = self._folder.configs[0]
            about = {"cluster": first.cluster, "protocol": first.protocol, "config": str(self._folder.config_path)}
            print_json({"event": "ready", **about, "endpoints": endpoints, "nodes": rows})
        else:
            typer.echo(f"cluster ready: {','.join(endpoints)}")
            for row in rows:
                rpc = f"  rpc {row['rpc']}" if row["rpc"] else ""
                typer.echo("  {name}  {endpoint}{rpc}  pid {pid}  {role}, logs to {log}".format(**{**row, "rpc": rpc}))
            self._advise(endpoints)
            kept = "removed" if self._ephemeral else "kept"
            typer.echo(f"Ctrl-C stops the cluster; its data in {self._folder.path} is {kept}.")
        sys.stdout.flush()

    def _rpc(self, node: int) -> str | None:
        """The URL of a node's RPC; None: it serves none."""
        rpc = self._folder.configs[0].nodes[node].rpc
        return None if rpc is None or why_unavailable() else f"http://{rpc}"

    def _advise(self, endpoints: list[str]) -> None:
        """What to do with the cluster."""
        if app := self._folder.configs[0].app:
            typer.echo(f"Its app is {app}. Try, in another terminal:")
            if (rpc := self._rpc(self._folder.configs[0].node)) is not None:
                typer.echo(f"  curl {rpc}/status")
        else:
            typer.echo("Try, in another terminal:")
        if ",".join(endpoints) != DEFAULT_ENDPOINTS_TEXT:
            typer.echo(f"  export QUORATE_ENDPOINTS={','.join(endpoints)}")
        if self._folder.configs[0].ledger is not None:
            treasury = self._folder.path / TREASURY_FILE
            typer.echo(f"  quorate chain wallet new alice.wallet\n  quorate chain send {treasury} alice.wallet 100")
            typer.echo("  quorate chain balance alice.wallet")
        else:
            typer.echo("  quorate status" if app else "  quorate put greeting hello\n  quorate get greeting")

    def ended(self, node: NodeProcess) -> None:
        """A node died, or was killed."""
        code, tail = node.ended.result(), node.log_tail()
        again = shlex.join(["quorate", "node", "--config", str(self._folder.config_path), "--node", str(node.node)])
        if self._json:
            event = {"event": "node_ended", "name": node.name, "pid": node.pid, "exit_code": code}
            print_json({**event, "log": str(node.log_path), "log_tail": tail, "restart": again})
            sys.stdout.flush()
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self.say(f"{node.name} (pid {node.pid}) {how}. The end of its log, {node.log_path}:")
        for line in tail:
            self.say(f"  {line}")
        self.say(f"The other nodes go on. To start it again, in another terminal:\n  {again}")

    def stopped(self) -> None:
        """No process is left."""
        if self._json:
            print_json({"event": "stopped"})
        else:
            typer.echo("cluster stopped")
