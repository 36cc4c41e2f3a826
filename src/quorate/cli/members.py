"""`quorate members` and its commands: which nodes there are, which of them vote, and how that is changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
    hands_on,
    print_json,
)

if TYPE_CHECKING:
    from quorate.parts.crypto.keys import Signer
    from quorate.parts.log.configuration import Voters
    from quorate.service.client.administration import Look
    from quorate.service.client.aio import AsyncClient

KeyOption = Annotated[Path | None, typer.Option("--key", help="An administrator's private key, where nodes may lie.")]

ClusterOption = Annotated[
    str, typer.Option("--cluster", help="The cluster's name: what --key signs counts in this cluster alone.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Even if too few of the nodes answer that would vote then.")]
NodesArgument = Annotated[str, typer.Argument(metavar="NODES", help="Names, such as n4 or n4,n5.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A name: n and a number, such as n4.")]

members = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@members.callback(invoke_without_command=True)
def show_members(
    context: typer.Context,
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 5.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Show the nodes of the cluster and which of them vote; the commands below change that.

    Example:  quorate members

    Prints a line per node: its name and number; whether it votes (voter; witness: without data) or follows (learner),
    or may join (invited); where nodes and clients reach it; how far it has applied the log, and how many entries it
    lacks. A last line says what makes a quorum. With --json: {"members": [1, 2, 3], "next_members": [3, 4, 5], "epoch":
    0, "nodes": [{"name", "id", "role", "witness", "peer", "client", "applied_index", "lag", "error"}], "quorum":
    "..."}; next_members is empty where no change is under way.

    Exit code: 0 done, 2 wrong use, 3 nobody to reach, or too few that agree.
    """
    if hands_on(context):
        return
    from quorate.cli.members_table import print_look

    print_look(*ask(_look, endpoints, timeout_s, faults), json)


@members.command("add")
def add_member(
    name: NameArgument,
    witness: Annotated[bool, typer.Option("--witness", help="It is to vote, and keep no data (raft).")] = False,
    key: KeyOption = None,
    cluster: ClusterOption = "",
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 30.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Let a new node join, and print the token with which it does, once.

    Example:  quorate members add n4

    The number in the name is one that no node of the cluster ever had. Start the node with the token:

    quorate node --join HOST:PORT,... --name n4 --token TOKEN --listen HOST:PORT --data DIR

    It follows then, without a vote: `quorate members promote n4`. Given again before the node has joined, the command
    prints another token, and the one before is void; `quorate members remove n4` withdraws it. With --json: {"name":
    "n4", "token": "..."}.

    A witness (--witness) votes once it is promoted, and keeps no data. It stays one for good. At most half of those
    that vote may be witnesses.

    Exit code: 0 done, 2 wrong use or refused, 3 no quorum, nobody to reach, or not in effect in time (it may still be).
    """
    node = _number(name)
    signer = _signer(key)
    token = ask(lambda client: client.invite(node, witness=witness), endpoints, timeout_s, faults, signer, cluster)
    from quorate.service.tokens import to_text

    if json:
        print_json({"name": f"n{node}", "token": to_text(token)})
        return
    typer.echo(to_text(token))
    typer.echo(
        f"It is for n{node} alone, and works once. On its machine:\n  quorate node --join {endpoints} --name n{node} "
        "--token TOKEN --listen HOST:PORT --data DIR",
        err=True,
    )


@members.command("promote")
def promote_members(
    nodes: NodesArgument,
    force: ForceOption = False,
    key: KeyOption = None,
    cluster: ClusterOption = "",
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 60.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Have learners vote, once they have caught up. Returns when they do.

    Example:  quorate members promote n4

    It may be given again, however it ended: what is so already changes nothing.

    Exit code: 0 done, 2 wrong use or refused, 3 no quorum, nobody to reach, or not in effect in time (it may still be).
    """
    chosen = _numbers(nodes)
    _change(
        lambda client: client.promote(chosen, force=force), endpoints, timeout_s, faults, _signer(key), cluster, json
    )


@members.command("demote")
def demote_members(
    nodes: NodesArgument,
    force: ForceOption = False,
    key: KeyOption = None,
    cluster: ClusterOption = "",
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 30.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Have nodes follow without a vote. Returns when the others go on without theirs: then they may be stopped.

    Example:  quorate members demote n4

    Exit code: 0 done, 2 wrong use or refused, 3 no quorum, nobody to reach, or not in effect in time (it may still be).
    """
    chosen = _numbers(nodes)
    _change(
        lambda client: client.demote(chosen, force=force), endpoints, timeout_s, faults, _signer(key), cluster, json
    )


@members.command("set")
def set_members(
    nodes: NodesArgument,
    force: ForceOption = False,
    key: KeyOption = None,
    cluster: ClusterOption = "",
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 30.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Have these nodes vote, and no others, in one step. Returns when they do: then the others may be stopped.

    Example:  quorate members set n1,n2,n3

    Where nodes may lie, an administrator signs it:  quorate members set n1,n2,n3,n5 --key data/keys/admin.key

    Only nodes of the cluster can be members. It may be given again, however it ended: what is so already changes
    nothing. Numbers may stand for names: 1,2,3.

    Exit code: 0 done, 2 wrong use or refused, 3 no quorum, nobody to reach, or not in effect in time (it may still be).
    """
    chosen = _numbers(nodes)
    _change(
        lambda client: client.set_members(chosen, force=force),
        *(endpoints, timeout_s, faults, _signer(key), cluster, json),
    )


@members.command("remove")
def remove_members(
    nodes: NodesArgument,
    force: ForceOption = False,
    key: KeyOption = None,
    cluster: ClusterOption = "",
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 30.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Have nodes leave the cluster for good. Returns when it goes on without them: then switch them off.

    The others hang up on them, and their numbers are never used again. An invitation is withdrawn in the same way.

    Example:  quorate members remove n3

    It may be given again, however it ended: what is so already changes nothing.

    Exit code: 0 done, 2 wrong use or refused, 3 no quorum, nobody to reach, or not in effect in time (it may still be).
    """
    leavers = _numbers(nodes)
    _change(
        lambda client: client.remove_nodes(leavers, force=force),
        *(endpoints, timeout_s, faults, _signer(key), cluster, json),
    )


@members.command("replace")
def replace_member(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Who leaves for good, such as n3.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="A learner that votes in its place, such as n4.")],
    force: ForceOption = False,
    key: KeyOption = None,
    cluster: ClusterOption = "",
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 60.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Have a node that lost its disk leave for good, and another vote in its place, in one step.

    Example:  quorate members replace n3 n4

    Have the new node join first: `quorate members add n4`. The old one is refused from then on, with its folder or
    without: never start it again. It may be given again, however it ended.

    Exit code: 0 done, 2 wrong use or refused, 3 no quorum, nobody to reach, or not in effect in time (it may still be).
    """
    leaver, comer = _number(old), _number(new)
    _change(
        lambda client: client.replace_node(leaver, comer, force=force),
        *(endpoints, timeout_s, faults, _signer(key), cluster, json),
    )


@members.command("move")
def move_member(
    name: NameArgument,
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where clients reach it now.")],
    peer: Annotated[
        str, typer.Option("--peer", help="Where the other nodes reach it now.", show_default="the next port")
    ] = "",
    key: KeyOption = None,
    cluster: ClusterOption = "",
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 30.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Tell the cluster where a node is now. The others dial it there, also after restarts.

    Example:  quorate members move n4 10.0.0.9:7401

    The node itself listens where its own configuration says: change that first, and start it there.

    Exit code: 0 done, 2 wrong use or refused, 3 no quorum, nobody to reach, or not in effect in time (it may still be).
    """
    from quorate.runtime.address import next_port, parse_address

    node = _number(name)
    try:
        parse_address(address)
        dialled = peer or next_port(address)
        parse_address(dialled)
    except ValueError as error:
        fail(str(error), Code.WRONG_USE)
    _change(
        lambda client: client.move_node(node, dialled, address),
        *(endpoints, timeout_s, faults, _signer(key), cluster, json),
    )


async def _look(client: AsyncClient) -> tuple[Look, bool]:
    look = await client.look()
    return look, client.is_byzantine


def _change(
    work: Callable[[AsyncClient], Awaitable[Voters]],
    endpoints: str,
    timeout_s: float,
    faults: int | None,
    key: Signer | None,
    cluster: str,
    json: bool,
) -> None:
    """Have it done, print who votes then, and say what quorum that leaves."""
    from quorate.service.client.errors import QuorateError
    from quorate.service.client.membership import quorum_word, settled

    async def change_and_look(client: AsyncClient) -> tuple[Voters, str]:
        voters = await work(client)
        try:
            look = await client.look()
        except QuorateError as error:
            return voters, f"what answers is not known: {error}"
        return voters, quorum_word(settled(voters), look.live, client.is_byzantine, look.cluster.nodes.witnesses)

    voters, word = ask(change_and_look, endpoints, timeout_s, faults, key, cluster)
    _print(voters, json)
    typer.echo(word, err=True)


def _numbers(nodes: str) -> tuple[int, ...]:
    from quorate.parts.log import configuration

    try:
        chosen = tuple(int(part.strip().removeprefix("n")) for part in nodes.split(","))
        configuration.encode_change(chosen)
    except ValueError as error:
        fail(f"{nodes!r} is no list of nodes: write their names, such as n1,n2,n3 ({error})", Code.WRONG_USE)
    return chosen


def _number(name: str) -> int:
    from quorate.service.node_names import number_of

    try:
        return number_of(name)
    except ValueError as error:
        fail(str(error), Code.WRONG_USE)


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
