"""`quorate backup`: the state of a cluster in a file, and new clusters that begin with it."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quorate.cli.common import (
    DEFAULT_ENDPOINTS_TEXT,
    Code,
    EndpointsOption,
    FaultsOption,
    JsonOption,
    TimeoutOption,
    ask,
    fail,
    print_json,
)

if TYPE_CHECKING:
    from quorate.service.backup.archive import BackupEnd, BackupHead
    from quorate.service.backup.fetching import FetchedBackup
    from quorate.service.config import NodeConfig

backup = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Save the state of a cluster to a file, check it, and begin a new cluster with it.\n\n"
    "Example:  quorate backup save monday.backup",
)

BackupArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]


@backup.command("save")
def save(
    file: BackupArgument,
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 10.0,
    faults: FaultsOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    json: JsonOption = False,
) -> None:
    """Save the state of a running cluster to FILE, as it is at one moment. Clients go on meanwhile.

    Example:  quorate backup save monday.backup

    One node gives it: one that does not lead, if it has all that the others know to be committed. The file appears
    whole or not at all, and only its owner may read it. It has the state and its history, and nothing of nodes,
    members, keys, or clients' sessions. With --json: as `quorate backup check`, and {"address"}.

    Where nodes may lie (pbft, tendermint), a backup from one node proves nothing: it is refused unless you say --faults
    0, and then the file says so.

    Exit code: 0 done, 1 FILE cannot be written, 2 wrong use or refused, 3 no node gives a backup.
    """
    from quorate.service.backup.fetching import fetch_backup

    async def work(client: Any) -> FetchedBackup:
        with _Display() as display:
            return await fetch_backup(client, file, display.show, takes_one_word=faults == 0, replaces=force)

    try:
        fetched = ask(work, endpoints, timeout_s, faults)
    except FileExistsError as error:
        fail(str(error), Code.WRONG_USE)
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror or error}", Code.FAILED)
    if json:
        print_json({**_as_json(fetched.head, fetched.end), "address": fetched.address})
    else:
        _print(fetched.head, fetched.end)
        typer.echo(f"saved to {file}, from {fetched.address}")


@backup.command("show")
def show(file: BackupArgument, json: JsonOption = False) -> None:
    """Show of what FILE is a backup, by its head; `check` reads all of it.

    Example:  quorate backup show monday.backup

    With --json: {"cluster", "protocol", "node", "role", "index", "term", "kind", "revision", "oldest_revision",
    "time_ns", "release", "is_one_word"}.

    Exit code: 0 done, 1 FILE is not a backup, or cannot be read.
    """
    from quorate.service.backup.archive import BackupReader

    def look() -> BackupHead:
        with BackupReader(file) as reader:
            return reader.head

    head = _read(file, look)
    if json:
        print_json(_as_json(head, None))
    else:
        _print(head, None)


@backup.command("check")
def check(file: BackupArgument, json: JsonOption = False) -> None:
    """Read all of FILE: its checksums, its digest, and every record of a key-value store.

    Example:  quorate backup check monday.backup

    A file that is cut or changed anywhere is refused. With --json: as `show`, and {"size_bytes", "digest"}: compare the
    digest with the one that `save` printed.

    Exit code: 0 it is whole, 1 it is not, or cannot be read.
    """
    from quorate.service.backup.restoring import check_backup

    head, end = _read(file, lambda: check_backup(file))
    if json:
        print_json(_as_json(head, end))
    else:
        _print(head, end)
        typer.echo(f"{file} is whole")


@backup.command("restore")
def restore(
    file: BackupArgument,
    data: Annotated[
        Path | None, typer.Option("--data", help="A new folder for a local cluster, as `quorate up` has one.")
    ] = None,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="With --data: how many nodes.")] = 3,
    protocol: Annotated[str, typer.Option("--protocol", help="With --data: raft or multipaxos.")] = "raft",
    base_port: Annotated[int, typer.Option("--base-port", help="With --data: as of `quorate up`.")] = 7400,
    config: Annotated[
        Path | None, typer.Option("--config", help="In place of --data: the new cluster's configuration.")
    ] = None,
    node: Annotated[
        int | None, typer.Option("--node", help="With --config: which node this machine has.", show_default="its own")
    ] = None,
    revision: Annotated[
        int | None, typer.Option("--revision", min=1, help="The state as it was at this revision.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make the data folders of a new cluster that begins with FILE. The old cluster, if it still runs, goes on.

    Example:  quorate backup restore monday.backup --data restored

    With --data, all nodes of a local cluster, which `quorate up --data DIR` starts. With --config, the folder of one
    node, where the configuration says; do it for each, each on its machine, with the same FILE. The new cluster's name
    must not be the old one's. Sessions are not in a backup: a client must not send a command of the old cluster again.

    With --json: {"cluster", "nodes", "folders", "revision"}.

    Exit code: 0 done, 1 FILE is not whole, or a folder cannot be written, 2 wrong use.
    """
    from quorate.runtime.errors import StorageError
    from quorate.service.backup.archive import BackupReader
    from quorate.service.backup.restoring import CannotRestore, restore_node

    if (data is None) == (config is None):
        fail("say where the new cluster begins: with --data DIR (all nodes here), or --config FILE", Code.WRONG_USE)

    def look() -> BackupHead:
        with BackupReader(file) as reader:
            return reader.head

    head = _read(file, look)
    try:
        if config is not None:
            configs, started = [_configured(config, node)], f"quorate node --config {shlex.quote(str(config))}"
        else:
            assert data is not None
            configs, started = _laid_out(head, data, nodes, protocol, base_port), shlex.join(["quorate", "up"])
            started = f"{started} --data {shlex.quote(str(data))}"
        for one in configs:
            restore_node(file, one, revision)
        if data is not None:
            _write_layout(configs[0].cluster, data, nodes, protocol, base_port)
    except CannotRestore as error:
        fail(str(error), Code.WRONG_USE)
    except ValueError as error:
        fail(str(error), Code.FAILED)
    except (StorageError, OSError) as error:
        fail(f"the folders cannot be written: {error}", Code.FAILED)
    made, shown = configs[0], revision or head.revision
    if json:
        folders = [str(one.data) for one in configs]
        print_json(
            {"cluster": made.cluster, "nodes": [one.node for one in configs], "folders": folders, "revision": shown}
        )
    else:
        what = f"revision {shown}" if shown else f"entry {head.index} of the log"
        typer.echo(f"cluster {made.cluster!r} begins with {what} of {head.cluster!r}. Start it:\n  {started}")


def _configured(path: Path, node: int | None) -> NodeConfig:
    from quorate.service.config import ConfigError, load

    try:
        return load(path, node)
    except (ConfigError, OSError) as error:
        fail(str(error), Code.WRONG_USE)


def _laid_out(head: BackupHead, data: Path, nodes: int, protocol: str, base_port: int) -> list[NodeConfig]:
    """The configurations of a local cluster. Raises CannotRestore, OSError."""
    from quorate.cli.folder import FolderError, Layout, check_layout
    from quorate.machines.kv.machine import KvMachine
    from quorate.runtime.files import make_directory
    from quorate.service.backup.restoring import CannotRestore, new_name
    from quorate.service.config import Member, NodeConfig

    if head.kind != KvMachine.kind:
        raise CannotRestore(
            "this is a backup of replicated objects, which live in a program: name the configuration of its nodes with "
            "--config, and start the program with that cluster's name and folder"
        )
    layout = Layout(new_name(head), nodes, protocol, base_port)
    try:
        check_layout(layout)
    except FolderError as error:
        raise CannotRestore(str(error)) from None
    if data.exists() and any(data.iterdir()):
        raise CannotRestore(f"{data} is not empty: a new cluster begins in a new folder")
    make_directory(data.absolute())
    members = {number: Member(layout.peer(number), layout.client(number)) for number in range(1, nodes + 1)}
    return [
        NodeConfig(cluster=layout.cluster, node=number, data=data / f"n{number}", nodes=members, protocol=protocol)
        for number in members
    ]


def _write_layout(cluster: str, data: Path, nodes: int, protocol: str, base_port: int) -> None:
    """Last, as a folder without it starts nothing."""
    from quorate.cli.folder import Layout
    from quorate.runtime.files import replace_file

    replace_file(data / "cluster.toml", Layout(cluster, nodes, protocol, base_port).toml().encode())


def _read(file: Path, work: Callable[[], Any]) -> Any:
    """Ends the command where the file is not a backup."""
    from quorate.service.backup.archive import BackupDamaged

    try:
        return work()
    except BackupDamaged as error:
        fail(str(error), Code.FAILED)
    except OSError as error:
        fail(f"{file}: {error.strerror or error}", Code.FAILED)


def _as_json(head: BackupHead, end: BackupEnd | None) -> dict[str, Any]:
    import msgspec

    known = {} if end is None else {"size_bytes": end.size_bytes, "digest": end.digest.hex()}
    return {**msgspec.structs.asdict(head), **known}


def _print(head: BackupHead, end: BackupEnd | None) -> None:
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(head.time_ns / 1e9))
    lines = [
        f"cluster   {head.cluster} ({head.protocol}), by n{head.node}, {head.role}, release {head.release}",
        f"time      {when}, by the clock of n{head.node}",
        f"state     {head.kind}, after entry {head.index} of term {head.term}",
    ]
    if head.revision:
        lines.append(f"revision  {head.revision}, with the history from {max(head.oldest_revision, 1)} on")
    if head.is_one_word:
        lines.append("warning   the nodes of this cluster may lie, and this is the word of one of them")
    if end is not None:
        lines += [f"size      {end.size_bytes} bytes", f"digest    {end.digest.hex()}"]
    typer.echo("\n".join(lines))


class _Display:
    """How far a backup has come, on a terminal; how large it will be, nobody knows."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn

        columns = SpinnerColumn(), TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn()
        self._progress = Progress(
            *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
        )
        self._task = self._progress.add_task("asking the nodes", total=None)

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, head: BackupHead, size_bytes: int) -> None:
        """So much is there."""
        self._progress.update(self._task, description=f"from n{head.node}", completed=size_bytes)
