"""`quorate leader` and its `transfer`: which node leads, and have another one lead."""

from __future__ import annotations

from typing import Annotated

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

leader = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@leader.callback(invoke_without_command=True)
def show_leader(
    context: typer.Context,
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 5.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Show which node leads; `transfer` has another one lead.

    Example:  quorate leader

    Prints its name, its term and where clients reach it: n2 leads term 4 at 127.0.0.1:7402. With --json: {"leader":
    "n2", "node": 2, "term": 4, "endpoint": "127.0.0.1:7402"}; endpoint is null if it is none of those that were given.

    Exit code: 0 done, 2 wrong use, 3 nobody leads or can be reached.
    """
    if hands_on(context):
        return
    found = ask(lambda client: client.leader(), endpoints, timeout_s, faults)
    if json:
        print_json({"leader": f"n{found.node}", "node": found.node, "term": found.term, "endpoint": found.address})
    else:
        where = "" if found.address is None else f" at {found.address}"
        typer.echo(f"n{found.node} leads term {found.term}{where}")


@leader.command("transfer")
def transfer(
    node: Annotated[
        str | None, typer.Argument(metavar="[NODE]", help="Which node is to lead: 2, or n2.", show_default="any")
    ] = None,
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 10.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Have another node lead. Returns when it does. No request fails: those that come meanwhile wait.

    Example:  quorate leader transfer n2

    Without NODE the one that answered last and has everything leads. Prints: n2 leads. With --json: {"leader": "n2",
    "node": 2}. If that node leads already, nothing changes.

    It is refused if the protocol has no such thing (pbft, paxos), or if NODE does not vote, does not answer, or is
    behind. If NODE has not taken over within an election timeout, the old leader leads on.

    Exit code: 0 done, 2 wrong use or refused, 3 nobody to reach, or the old leader leads on.
    """
    to = None if node is None else _number(node)
    found = ask(lambda client: client.transfer_leadership(to), endpoints, timeout_s, faults)
    if json:
        print_json({"leader": f"n{found}", "node": found})
    else:
        typer.echo(f"n{found} leads")


def _number(node: str) -> int:
    from quorate.service.node_names import number_of

    try:
        return number_of(node)
    except ValueError as error:
        fail(str(error), Code.WRONG_USE)
