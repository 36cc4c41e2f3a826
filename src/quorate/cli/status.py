"""`quorate status`: what each node says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quorate.cli.common import (
    DEFAULT_ENDPOINTS_TEXT,
    Code,
    EndpointsOption,
    JsonOption,
    TimeoutOption,
    ask,
    fail,
    print_json,
)

if TYPE_CHECKING:
    from quorate.service.client.errors import QuorateError
    from quorate.service.requests import Status

COLUMNS = ("node", "role", "term", "commit", "applied", "lag", "endpoint", "pid")


def status(
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 2.0,
    json: JsonOption = False,
) -> None:
    """Ask every node how it is. Lag: entries that others know to be committed and this node has not applied yet.

    A leader is called primary, its term a view, where nodes may lie; each row is what that node says of itself.

    Example:  quorate status --endpoints 10.0.0.1:7401,10.0.0.2:7401,10.0.0.3:7401

    With --json: {"nodes": [{"name", "role", "pid", "endpoint", "term", "commit_index", "applied_index", "lag",
    "leader", "protocol", "stalled", "note", "error"}]}. A node that does not answer has the role "unreachable", an
    error, and null for what is not known.

    Exit code: 0 a leader is known, 2 wrong use, 3 there is none or nobody can be reached.
    """
    found = ask(lambda client: client.statuses(), endpoints, timeout_s)
    rows = rows_of(found)
    if json:
        print_json({"nodes": rows})
    else:
        _print_table(rows)
    if not any(row["leader"] for row in rows):
        reached = sum(row["error"] is None for row in rows)
        why = "no leader is known" if reached else "no node can be reached"
        fail(f"{why} ({reached} of {len(rows)} endpoints answered)", Code.UNAVAILABLE)


def rows_of(found: list[tuple[str, Status | QuorateError]]) -> list[dict[str, Any]]:
    """One object for each endpoint, as ``--json`` prints them."""
    from quorate.service.requests import Status

    known = max((status.commit_index for _, status in found if isinstance(status, Status)), default=0)
    return [
        _row(endpoint, status, known) if isinstance(status, Status) else _row_without(endpoint, status)
        for endpoint, status in found
    ]


def _row(endpoint: str, status: Status, commit_index_max: int) -> dict[str, Any]:
    return {
        "name": f"n{status.node}",
        "role": status.role,
        "pid": status.pid,
        "endpoint": endpoint,
        "term": status.term,
        "commit_index": status.commit_index,
        "applied_index": status.applied_index,
        "lag": commit_index_max - status.applied_index,
        "leader": None if status.leader is None else f"n{status.leader}",
        "protocol": status.protocol,
        "stalled": status.stalled,
        "note": status.note or None,
        "error": None,
    }


def _row_without(endpoint: str, error: QuorateError) -> dict[str, Any]:
    unknown = ("name", "pid", "term", "commit_index", "applied_index", "lag", "leader", "protocol", "stalled", "note")
    return {**dict.fromkeys(unknown), "role": "unreachable", "endpoint": endpoint, "error": str(error)}


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    table = Table(*COLUMNS[:2], box=None, pad_edge=False)
    for column in COLUMNS[2:]:
        table.add_column(column, justify="left" if column == "endpoint" else "right")
    colors = {"leader": "green", "primary": "green", "unreachable": "red"}
    for row in rows:
        fields = ("name", "role", "term", "commit_index", "applied_index", "lag", "endpoint", "pid")
        cells = ["-" if row[field] is None else str(row[field]) for field in fields]
        table.add_row(*cells, style=colors.get(row["role"]))
    console.print(table)
    for row in rows:
        if row["error"]:
            console.print(row["error"], markup=False)
        if row["stalled"]:
            console.print(f"{row['name']} takes no records: {row['stalled']}", markup=False)
        if row["note"]:
            console.print(f"{row['name']} {row['note']}", markup=False)
