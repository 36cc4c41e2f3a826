"""What `quorate members` prints: a row per node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import typer

from quorate.cli.common import print_json

if TYPE_CHECKING:
    from quorate.service.client.administration import Look

COLUMNS: Final = ("name", "id", "role", "peer", "client", "applied_index", "lag")


def print_look(look: Look, is_byzantine: bool, json: bool) -> None:
    """As a table, or as JSON."""
    from quorate.service.client.membership import quorum_word, settled, text_of

    voters = look.cluster.voters
    assert voters is not None  # it is believed
    word = quorum_word(settled(voters), look.live, is_byzantine, look.cluster.nodes.witnesses)
    rows = node_rows(look)
    if json:
        said = {"members": voters.members, "next_members": voters.next_members, "epoch": voters.epoch}
        print_json({**said, "nodes": rows, "quorum": word})
        return
    _print_table(rows)
    if voters.next_members:
        typer.echo(f"{text_of(voters.members)} vote until {text_of(voters.next_members)} is in effect")
    typer.echo(word)


def node_rows(look: Look) -> list[dict[str, Any]]:
    """One object for each node, as ``--json`` prints them; at last those that may join."""
    from quorate.service.client.membership import settled
    from quorate.service.node_names import name_of
    from quorate.service.requests import Status

    assert look.cluster.voters is not None
    voting = settled(look.cluster.voters)
    found = [status for _, status in look.nodes if isinstance(status, Status)]
    furthest = max((status.commit_index for status in found), default=0)
    rows = []
    for known, status in look.nodes:
        is_there, is_witness = isinstance(status, Status), look.cluster.nodes.is_witness(known.node)
        rows.append(
            {
                "name": name_of(known.node),
                "id": known.node,
                "role": _role(known.node in voting, is_witness),
                "witness": is_witness,
                "peer": known.peer or None,
                "client": known.client or None,
                "applied_index": status.applied_index if isinstance(status, Status) and not is_witness else None,
                "lag": furthest - status.applied_index if isinstance(status, Status) else None,
                "error": None if is_there else str(status),
            }
        )
    for invited in look.cluster.nodes.invited:
        nothing = dict.fromkeys(("peer", "client", "applied_index", "lag", "error"))
        who = {"name": name_of(invited.node), "id": invited.node, "role": "invited", "witness": invited.witness}
        rows.append({**who, **nothing})
    return rows


def _role(votes: bool, is_witness: bool) -> str:
    if not votes:
        return "learner"
    return "witness" if is_witness else "voter"


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    table = Table("name", "id", "role", "nodes reach it at", "clients at", box=None, pad_edge=False)
    for column in ("applied", "lag"):
        table.add_column(column, justify="right")
    for row in rows:
        cells = ["-" if row[column] is None else str(row[column]) for column in COLUMNS]
        table.add_row(*cells, style="red" if row["error"] else None)
    console.print(table)
    for row in rows:
        if row["error"]:
            console.print(f"{row['name']} does not answer: {row['error']}", markup=False)
