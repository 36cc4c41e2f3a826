"""`quorate members` and `quorate members set`: which nodes vote."""

from __future__ import annotations

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
    from quorate.parts.configuration import Voters
    from quorate.parts.keys import Signer

members = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@members.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 5.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Show which nodes vote; the others follow. With `set`, have others vote.

    Example:  quorate members

    Prints their numbers: 1,2,3. While a change is under way: 1,2,3 until 3,4,5 is in effect. With --json: {"members":
    [1, 2, 3], "next_members": [3, 4, 5], "epoch": 0}; next_members is empty where no change is under way.

    Exit code: 0 done, 2 wrong use, 3 nobody to reach, or too few that agree.
    """
    if context.invoked_subcommand is not None:
        # An option may also stand before `set`.
        context.default_map = {context.invoked_subcommand: _given(context)}
        return
    _print(ask(lambda client: client.members(), endpoints, timeout_s, faults), json)


@members.command("set")
def set_(
    nodes: Annotated[str, typer.Argument(metavar="NODES", help="Numbers of nodes of the configuration: 1,2,3.")],
    key: Annotated[
        Path | None, typer.Option("--key", help="An administrator's private key, where nodes may lie.")
    ] = None,
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 30.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Have these nodes vote, and no others. Returns when they do: then the others may be stopped.

    Example:  quorate members set 1,2,3

    Where nodes may lie, an administrator signs it:  quorate members set 1,2,3,5 --key data/keys/admin.key

    Only nodes that the configuration names can be members. It may be given again, however it ended: what is so already
    changes nothing.

    Exit code: 0 done, 2 wrong use or refused, 3 no quorum, nobody to reach, or not in effect in time (it may still be).
    """
    from quorate.parts import configuration

    try:
        chosen = tuple(int(part) for part in nodes.split(","))
        configuration.encode(chosen)
    except ValueError as error:
        fail(f"{nodes!r} is no list of nodes: write their numbers, such as 1,2,3 ({error})", Code.WRONG_USE)
    signer = None if key is None else _signer(key)
    _print(ask(lambda client: client.set_members(chosen), endpoints, timeout_s, faults, signer), json)


def _given(context: typer.Context) -> dict[str, Any]:
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name: context.params[name] for name, s in sources.items() if s is not None and s.name == "COMMANDLINE"}


def _signer(path: Path) -> Signer:
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
