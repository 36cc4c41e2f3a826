"""`quorate history`: how much of its past a store keeps, and who rolled it back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quorate.cli.common import (
    DEFAULT_ENDPOINTS_TEXT,
    Code,
    EndpointsOption,
    FaultsOption,
    JsonOption,
    TimeoutOption,
    as_json,
    ask,
    fail,
    hands_on,
    print_json,
)

if TYPE_CHECKING:
    from quorate.machines.kv.commands import HistoryResult, RolledBack

history = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@history.callback(invoke_without_command=True)
def show_history(
    context: typer.Context,
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 5.0,
    faults: FaultsOption = None,
    at: Annotated[
        str | None, typer.Option("--at", help="Also: which revision was there at this time (as of `rollback`).")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show how far back the store can be read, what it keeps, and its rollbacks; `keep` sets how much it keeps.

    Example:  quorate history --at 2026-12-01T10:30:00Z

    With --json: {"revision", "compact_revision", "revisions_max", "age_s_max", "at": {"revision", "time_ns"},
    "rollbacks": [{"revision", "to_revision", "key", "range_end", "who", "time_ns", "puts", "deletes"}]}; 0 is no limit.

    Exit code: 0 done, 2 wrong use, 3 no quorum or nobody to reach.
    """
    from quorate.cli.times import parse_time

    if hands_on(context):
        return
    try:
        at_ns = 0 if at is None else max(1, parse_time(at))
    except ValueError as error:
        fail(str(error), Code.WRONG_USE)
    found = ask(lambda client: client.history(at_ns=at_ns), endpoints, timeout_s, faults)
    if json:
        print_json(_as_json(found))
    else:
        _print(found, at)


@history.command("keep")
def keep(
    revisions: Annotated[int, typer.Option("--revisions", min=0, help="So many before the newest; 0: no limit.")] = 0,
    age_s: Annotated[
        int, typer.Option("--age-s", min=0, help="What is no older than so many seconds; 0: no limit.")
    ] = 0,
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 5.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Set how much history the store keeps, on all nodes and from now on. What is beyond either limit is forgotten.

    Example:  quorate history keep --revisions 100000 --age-s 604800

    Without options everything is kept again, from now on. With --json: {"revision"}.

    Exit code: 0 done, 2 wrong use, 3 no quorum or nobody to reach (where it may have taken effect, the text says so).
    """
    revision = ask(
        lambda client: client.keep_history(revisions_max=revisions, age_s_max=age_s), endpoints, timeout_s, faults
    )
    if json:
        print_json({"revision": revision})
    else:
        typer.echo(f"the store keeps {_window(revisions, age_s)}")


def _window(revisions_max: int, age_s_max: int) -> str:
    parts = [f"{revisions_max} revisions"] if revisions_max else []
    parts += [f"{age_s_max} s"] if age_s_max else []
    return f"at least {' or '.join(parts)} of history, whichever is less" if parts else "all of its history"


def _print(found: HistoryResult, at: str | None) -> None:
    from quorate.cli.times import format_time

    typer.echo(f"revisions {max(found.compact_revision, 1)} to {found.revision}")
    typer.echo(f"the store keeps {_window(found.revisions_max, found.age_s_max)}")
    if at is not None:
        known = "none is known to have been there"
        if found.at is not None:
            known = f"revision {found.at.revision}, there since {format_time(found.at.time_ns)}"
        typer.echo(f"at {at}: {known}")
    for one in found.rollbacks:
        when = format_time(one.time_ns) if one.time_ns else "at an unknown time"
        prefix = "all keys" if one.key == b"\0" else os.fsdecode(one.key)
        what = f"rolled {prefix} back to {one.to_revision}, {when}: {one.puts} put, {one.deletes} deleted"
        typer.echo(f"revision {one.revision}: {one.who or 'somebody'} {what}")


def _as_json(found: HistoryResult) -> dict[str, Any]:
    import msgspec

    fields = msgspec.structs.asdict(found)
    fields["at"] = None if found.at is None else msgspec.structs.asdict(found.at)
    fields["rollbacks"] = [_entry_as_json(one) for one in found.rollbacks]
    return fields


def _entry_as_json(one: RolledBack) -> dict[str, Any]:
    import msgspec

    fields = msgspec.structs.asdict(one)
    return {**as_json("key", fields.pop("key")), **as_json("range_end", fields.pop("range_end")), **fields}
