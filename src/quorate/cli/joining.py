"""`quorate node --join`: what comes before the node's first start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import typer

from quorate.cli.common import Code, fail
from quorate.runtime.address import next_port, parse_address
from quorate.runtime.errors import StorageError
from quorate.runtime.key_files import KeyFileError
from quorate.service.client.errors import QuorateError, Refused
from quorate.service.config import Member
from quorate.service.joining import Plan, join
from quorate.service.node_names import number_of
from quorate.service.reconfiguration import why_not_dialled
from quorate.service.tokens import read_token


def join_cluster(
    endpoints: str,
    name: str,
    token: str,
    listen: str,
    listen_peer: str,
    data: Path | None,
    begin: Callable[[int], None],
) -> Path:
    """Have the node join, or see that it has; the path of its configuration. Ends the command where it cannot.

    ``begin`` is called with the node's number before anything is done.
    """
    plan = _plan(endpoints, name, token, listen, listen_peer, data)
    begin(plan.token.node)
    try:
        return asyncio.run(join(plan))
    except Refused as error:
        fail(str(error), Code.WRONG_USE)
    except QuorateError as error:
        fail(f"{error}. The same command goes on where this one stopped", Code.UNAVAILABLE)
    except ValueError as error:  # endpoints that are none
        fail(str(error), Code.WRONG_USE)
    except (StorageError, KeyFileError, OSError) as error:
        typer.echo(f"error: node {plan.token.node} cannot join: {error}", err=True)
        raise typer.Exit(Code.FAILED) from None


def _plan(endpoints: str, name: str, token: str, listen: str, listen_peer: str, data: Path | None) -> Plan:
    """What was asked for, checked."""
    if data is None:
        fail("--join needs --data, the folder of the node's data", Code.WRONG_USE)
    for option, value in (("--name", name), ("--token", token), ("--listen", listen)):
        if not value:
            fail(f"--join needs {option}: see quorate node --help", Code.WRONG_USE)
    try:
        read = read_token(token)
        number = number_of(name)
        if read.node != number:
            fail(f"the token is for n{read.node}, not for n{number}: each node has one of its own", Code.WRONG_USE)
        parse_address(listen)
        peer = listen_peer or next_port(listen)
    except ValueError as error:  # a TokenError, too
        fail(str(error), Code.WRONG_USE)
    for address in (listen, peer):
        if (why := why_not_dialled(address, number)) is not None:
            cure = ". If it listens elsewhere, say so in node.toml once it has joined (listen_client, listen_peer)"
            fail(why + cure, Code.WRONG_USE)
    return Plan(endpoints, read, Member(peer, listen), data)
