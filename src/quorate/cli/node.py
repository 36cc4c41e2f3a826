"""`quorate node`: one node of a cluster, in the foreground, until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import shlex
import signal
import sys
import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from quorate.cli.common import Code, fail
from quorate.runtime.descriptors import NONE_LEFT, raise_limit
from quorate.runtime.folder import Beginning
from quorate.service.config import ConfigError, NodeConfig, load

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from quorate.service.comet.chain_server import ChainServer
    from quorate.service.server import Server

log = logging.getLogger("quorate.cli")

ORPHAN_GRACE_S: Final = 10
"""A node whose parent has died has this long to stop in order."""

START_GRACE_S: Final = 1.5
"""A node that is to stop before it has started has this long to start; most do, and stop in order then."""

MENDING_STARTS: Final = 2
"""One life finds damage in its state, the next one that its start needs what is damaged, and the last one mends it."""

NO_CONFIG_YET: Final = "a node that joins has no configuration yet: leave out --config and its options"

LogLevel = Enum("LogLevel", {name: name for name in ("debug", "info", "warning", "error")}, type=str)  # type: ignore[misc]
DEFAULT_LOG_LEVEL: Final = LogLevel("info")


def node(
    config: Annotated[Path | None, typer.Option(help="The configuration, a TOML file; or --join, without one.")] = None,
    node: Annotated[
        int | None, typer.Option(help="Which of the file's nodes this is; default: what the file says.")
    ] = None,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="The node is new: make its data folder. Only at its very first start.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Its folder lost something: set it aside, and have the others send it.")
    ] = False,
    join: Annotated[
        str, typer.Option("--join", metavar="ENDPOINTS", help="Join the cluster of these nodes: client addresses.")
    ] = "",
    name: Annotated[str, typer.Option("--name", help="With --join: the node's name, such as n4.")] = "",
    token: Annotated[
        str,
        typer.Option(
            "--token", envvar="QUORATE_TOKEN", show_envvar=True, help="With --join: what `quorate members add` printed."
        ),
    ] = "",
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="With --join: where clients reach it.")
    ] = "",
    listen_peer: Annotated[
        str,
        typer.Option("--listen-peer", metavar="HOST:PORT", help="Where nodes reach it.", show_default="the next port"),
    ] = "",
    data: Annotated[Path | None, typer.Option("--data", help="With --join: its data folder.")] = None,
    log_level: Annotated[LogLevel, typer.Option(help="The least that is logged.")] = DEFAULT_LOG_LEVEL,
    stop_with_parent: Annotated[int | None, typer.Option(hidden=True, help="Stop when this pipe is closed.")] = None,
) -> None:
    """Run one node until SIGTERM or Ctrl-C. Logs to standard error, one line an event.

    Example:  quorate node --config /etc/quorate/cluster.toml --node 1 --bootstrap

    Without --bootstrap a node whose data folder is empty or missing does not start: it would have forgotten its votes.
    With it, one whose folder has data does not. A node whose folder is damaged fetches what it lost from the others,
    and counts again when they have agreed; one whose folder is empty or missing does so with --repair.

    A node that no file names joins a running cluster:

    quorate node --join 10.0.0.1:7401,10.0.0.2:7401 --name n4 --token TOKEN --listen 10.0.0.4:7401 --data /var/lib/q

    It follows then, until `quorate members promote n4` has it vote. Its configuration is DIR/node.toml. The same
    command starts it again, and so does --config DIR/node.toml.

    Exit code: 0 stopped in order, 1 the node cannot start or go on (its files, its ports), 2 wrong use, a configuration
    that cannot be used, or a join that was refused, 3 it could not join in time.
    """
    if config is None:
        if not join:
            fail("say which configuration the node has (--config), or which cluster it joins (--join)", Code.WRONG_USE)
        if node is not None or bootstrap or repair:
            fail(NO_CONFIG_YET, Code.WRONG_USE)
        from quorate.cli.joining import join_cluster

        config = join_cluster(join, name, token, listen, listen_peer, data, lambda node: _begin(node, log_level))
        chosen = _load(config, None)
    else:
        if join:
            fail(NO_CONFIG_YET, Code.WRONG_USE)
        if name or listen or listen_peer or data is not None:
            fail("--name, --listen, --listen-peer and --data belong to --join: the file says that", Code.WRONG_USE)
        if bootstrap and repair:
            fail("a node is new (--bootstrap), or has lost something (--repair): leave one out", Code.WRONG_USE)
        chosen = _load(config, node)
        _begin(chosen.node, log_level)
    beginning = Beginning.NEW if bootstrap else Beginning.REPAIR if repair else Beginning.EXISTING
    sys.exit(_run_node(chosen, config, beginning, stop_with_parent))


def _load(config: Path, node: int | None) -> NodeConfig:
    try:
        return load(config, node)
    except ConfigError as error:
        fail(str(error), Code.WRONG_USE)
    except OSError as error:
        fail(f"{config}: cannot be read: {error.strerror}", Code.WRONG_USE)


def _run_node(chosen: NodeConfig, config: Path, beginning: Beginning, stop_with_parent: int | None) -> int:
    """The life of a node, and what to do after it; the exit code."""
    ending = _run(_serve(chosen, beginning, stop_with_parent))
    for _ in range(MENDING_STARTS):
        if not (ending.is_damaged and ending.has_run and chosen.entry.core.is_repairable):
            break
        log.warning("the node starts again, to mend its folder")
        ending = _run(_serve(chosen, Beginning.EXISTING, stop_with_parent))
    again = shlex.join(["quorate", "node", "--config", str(config), "--node", str(chosen.node)])
    if ending.is_empty:
        typer.echo(f"To begin a new node:\n  {again} --bootstrap", err=True)
    if ending.is_damaged and len(chosen.nodes) > 1 and chosen.entry.core.is_repairable:
        typer.echo(f"To have the other nodes send what this one lost:\n  {again} --repair", err=True)
    if ending.is_stuck:
        # What it is has been said. The interpreter would wait for that thread as long as the disk hangs.
        log.warning("the process ends without a thread that waits for the disk")
        logging.shutdown()
        os._exit(ending.code)
    return ending.code


def _begin(node: int, log_level: LogLevel) -> None:
    log_to_stderr(node, log_level.value)
    _tune()


class Ending(NamedTuple):
    """How a node ended: the exit code, and whether a thread of its waits for a disk that hangs."""

    code: int
    is_stuck: bool = False
    is_empty: bool = False
    """Whether it did not start, because its folder is empty."""
    is_damaged: bool = False
    """Whether it ended because its folder, which may be empty, has lost something."""
    has_run: bool = False
    """Whether it had started before that."""


def _tune() -> None:
    """Three defaults, of the interpreter and of the system, that suit a server badly."""
    raise_limit()
    # The journal's thread must not wait 5 ms for its turn each time that a write ends.
    sys.setswitchinterval(0.0005)
    # Almost all of the heap is the log and the index, without cycles; walking it often is time lost.
    gc.set_threshold(50_000, 50, 100)


def _run(work: Coroutine[object, object, Ending]) -> Ending:
    """On uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


async def _serve(config: NodeConfig, beginning: Beginning, parent_fd: int | None) -> Ending:
    """The life of a node, and how it ended."""
    from quorate.kernel import AppEnded
    from quorate.runtime.errors import DiskHangs, FolderEmpty, StorageError
    from quorate.runtime.repair import DAMAGE

    stopping = _on_signals(parent_fd)
    asyncio.get_running_loop().set_exception_handler(_tell_of_loop)
    try:
        server = _server_of(config, beginning)
        starting = asyncio.ensure_future(server.start())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done() and server.awaits:
            starting.cancel()
            await asyncio.wait((starting,))
            log.info("stopped while it waited for %s", server.awaits)
            return Ending(Code.OK)
        if not (await asyncio.wait((starting,), timeout=START_GRACE_S))[0]:
            log.error("it was stopped before it had started: its files are still being read. Does the disk hang?")
            return Ending(Code.FAILED, is_stuck=True)
        await starting
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        return Ending(Code.WRONG_USE)
    except (StorageError, AppEnded, OSError, ValueError) as error:
        typer.echo(f"error: node {config.node} cannot start: {error}", err=True)
        is_stuck, is_empty = isinstance(error, DiskHangs), isinstance(error, FolderEmpty)
        return Ending(Code.FAILED, is_stuck, is_empty, isinstance(error, DAMAGE))
    ended = asyncio.ensure_future(server.wait())
    await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
    return await _stop(server, ended)


def _server_of(config: NodeConfig, beginning: Beginning) -> Server | ChainServer:
    """Raises ConfigError."""
    if config.app:
        from quorate.service.comet.chain_server import ChainServer

        return ChainServer(config, beginning=beginning)
    from quorate.service.serving import server_of

    return server_of(config, beginning=beginning)


async def _stop(server: Server | ChainServer, ended: asyncio.Future[None]) -> Ending:
    """Stop in order. What ended the node, if it ended by itself, has been logged by it."""
    from quorate.kernel import StateDamaged
    from quorate.runtime.errors import DiskHangs, WorkLeft
    from quorate.runtime.repair import DAMAGE

    why = ended.exception() if ended.done() else None
    has_failed = why is not None
    is_stuck = False
    try:
        await server.stop()
    except WorkLeft as error:
        log.warning("%s", error)
        is_stuck = True
    except Exception as error:
        log.error("could not stop in order: %s", error)
        has_failed = True
        is_stuck = isinstance(error, DiskHangs)
    if not ended.done():
        await ended
    log.info("stopped")
    is_damaged = isinstance(why, (*DAMAGE, StateDamaged))
    return Ending(Code.FAILED if has_failed else Code.OK, is_stuck, is_damaged=is_damaged, has_run=True)


def _tell_of_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What the loop cannot tell anybody else. A port that can accept nobody is told in a line, again and again."""
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in NONE_LEFT:
        log.error("nobody is accepted for a second: %s: raise the limit (ulimit -n), or have fewer clients", error)
    else:
        loop.default_exception_handler(context)


def _on_signals(parent_fd: int | None) -> asyncio.Future[None]:
    """A future that is done when the node should stop. A second signal ends the process at once."""
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[None] = loop.create_future()

    def stop(why: str) -> None:
        log.info("stopping: %s", why)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        if not stopping.done():
            stopping.set_result(None)

    def orphaned(fd: int) -> None:
        loop.remove_reader(fd)
        signal.alarm(ORPHAN_GRACE_S)  # nobody is left who could kill us
        stop("the process that started this node has ended")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    if parent_fd is not None:
        loop.add_reader(parent_fd, orphaned, parent_fd)
    return stopping


class LineFormatter(logging.Formatter):
    """One line an event, whatever is in it: ``time=... level=info node=1 logger=quorate.node msg="..."`` (logfmt)."""

    def __init__(self, node: int) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        """A record as one line; texts are quoted as in JSON, so that no newline of theirs ends it."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = (
            f"time={moment}.{int(record.msecs):03d}Z level={record.levelname.lower()} node={self._node} "
            f"logger={record.name} msg={json.dumps(record.getMessage(), ensure_ascii=False)}"
        )
        if record.exc_info:
            line += f" traceback={json.dumps(self.formatException(record.exc_info), ensure_ascii=False)}"
        return line


def log_to_stderr(node: int, level: str) -> None:
    """Send the log of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(node))
    logging.basicConfig(handlers=[handler], level=level.upper())
