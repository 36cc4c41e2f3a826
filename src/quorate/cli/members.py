"""`quorate members` and its `set`, `add` and `remove`: which nodes vote, and which there are."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    given,
    print_json,
)

if TYPE_CHECKING:
    from quorate.parts.crypto.keys import Signer
    from quorate.parts.log.configuration import Voters
    from quorate.service.client.aio import AsyncClient

KeyOption = Annotated[Path | None, typer.Option("--key", help="An administrator's private key, where nodes may lie.")]

ClusterOption = Annotated[
    str, typer.Option("--cluster", help="The cluster's name: what --key signs counts in this cluster alone.")
]

members = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@members.callback(invoke_without_command=True)
def show_members(
    context: typer.Context,
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 5.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Show the voting members; `set` changes them, `add` and `remove` have nodes join and leave the cluster.

    Example:  quorate members

    Prints their numbers: 1,2,3. While a change is under way: 1,2,3 until 3,4,5 is in effect. With --json: {"members":
    [1, 2, 3], "next_members": [3, 4, 5], "epoch": 0}; next_members is empty where no change is under way.

    Exit code: 0 done, 2 wrong use, 3 nobody to reach, or too few that agree.
    """
    if context.invoked_subcommand is not None:
        # An option may also stand before the subcommand.
        context.default_map = {context.invoked_subcommand: given(context)}
        return
    _print(ask(lambda client: client.members(), endpoints, timeout_s, faults), json)


@members.command("set")
def set_members(
    nodes: Annotated[str, typer.Argument(metavar="NODES", help="Numbers of nodes of the configuration: 1,2,3.")],
    key: KeyOption = None,
    cluster: ClusterOption = "",
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 30.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Have these nodes vote, and no others. Returns when they do: then the others may be stopped.

    Example:  quorate members set 1,2,3

    Where nodes may lie, an administrator signs it:  quorate members set 1,2,3,5 --key data/keys/admin.key

    Only nodes of the cluster can be members: those of its configuration, and those that `add` brought. It may be given
    again, however it ended: what is so already changes nothing.

    Exit code: 0 done, 2 wrong use or refused, 3 no quorum, nobody to reach, or not in effect in time (it may still be).
    """
    chosen = _numbers(nodes)
    _print(ask(lambda client: client.set_members(chosen), endpoints, timeout_s, faults, _signer(key), cluster), json)


@members.command("add")
def add_member(
    node: Annotated[int, typer.Argument(help="The new node's number, which no node of the cluster ever had.", min=0)],
    peer: Annotated[str, typer.Option("--peer", help="Where the other nodes reach it: host:port.")],
    client: Annotated[str, typer.Option("--client", help="Where clients reach it: host:port.")],
    public_key: Annotated[
        str,
        typer.Option("--public-key", help="Its public key in hex, as `quorate keys show` prints it, if nodes sign."),
    ] = "",
    key: KeyOption = None,
    cluster: ClusterOption = "",
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 60.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Have a new node join and vote. Start it first. Returns when it votes.

    The others get to know it, it catches up from them, and then it becomes a member.

    Example:  quorate members add 6 --peer 10.0.0.6:7501 --client 10.0.0.6:7401

    It may be given again, however it ended: what is so already changes nothing.

    Exit code: 0 done, 2 wrong use or refused, 3 no quorum, nobody to reach, or not done in time (it may still be).
    """
    from quorate.runtime.address import parse_address

    try:
        for address in (peer, client):
            parse_address(address)
    except ValueError as error:
        fail(str(error), Code.WRONG_USE)
    try:
        public = bytes.fromhex(public_key)
    except ValueError:
        fail(
            f"{public_key!r} is not a public key: write the hex digits that `quorate keys show` prints", Code.WRONG_USE
        )

    def add(it: AsyncClient) -> Awaitable[Voters]:
        return it.add_node(node, peer, client, public)

    _print(ask(add, endpoints, timeout_s, faults, _signer(key), cluster), json)


@members.command("remove")
def remove_members(
    nodes: Annotated[str, typer.Argument(metavar="NODES", help="Numbers of nodes that leave: 3 or 3,4.")],
    key: KeyOption = None,
    cluster: ClusterOption = "",
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 30.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Have nodes leave the cluster for good. Returns when it goes on without them: then switch them off.

    The others hang up on them, and their numbers are never used again.

    Example:  quorate members remove 3

    It may be given again, however it ended: what is so already changes nothing.

    Exit code: 0 done, 2 wrong use or refused, 3 no quorum, nobody to reach, or not in effect in time (it may still be).
    """
    leavers = _numbers(nodes)
    _print(ask(lambda client: client.remove_nodes(leavers), endpoints, timeout_s, faults, _signer(key), cluster), json)


def _numbers(nodes: str) -> tuple[int, ...]:
    from quorate.parts.log import configuration

    try:
        chosen = tuple(int(part) for part in nodes.split(","))
        configuration.encode_change(chosen)
    except ValueError as error:
        fail(f"{nodes!r} is no list of nodes: write their numbers, such as 1,2,3 ({error})", Code.WRONG_USE)
    return chosen


def _signer(path: Path | None) -> Signer | None:
    if path is None:
        return None
    from quorate.runtime import key_files

    try:
        return key_files.read_private_key(path)
    except key_files.KeyFileError as error:
        fail(str(error), Code.WRONG_USE)


def _print(voters: Voters, json: bool) -> None:
    from quorate.service.client.membership import text_of

    if json:
        print_json({"members": voters.members, "next_members": voters.next_members, "epoch": voters.epoch})
    elif voters.next_members:
        typer.echo(f"{text_of(voters.members)} until {text_of(voters.next_members)} is in effect")
    else:
        typer.echo(text_of(voters.members))
