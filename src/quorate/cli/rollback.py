"""`quorate rollback`: the values of a prefix as they were at an older revision, as one new revision."""

from __future__ import annotations

import getpass
import os
import socket
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quorate.cli.common import (
    DEFAULT_ENDPOINTS_TEXT,
    Code,
    EndpointsOption,
    FaultsOption,
    JsonOption,
    as_json,
    ask,
    fail,
    print_json,
)

if TYPE_CHECKING:
    from quorate.machines.kv.commands import RollbackPlan, RollbackResult, TimeMark
    from quorate.service.client.aio import AsyncClient

NAMED: int = 20
"""Keys that a dry run prints; with --json it prints more."""


def rollback(
    to_revision: Annotated[int | None, typer.Option("--to-revision", min=1, help="As it was at this revision.")] = None,
    to_time: Annotated[
        str | None,
        typer.Option("--to-time", help="As it was then: 2026-12-01T10:30:00Z, or seconds since 1970."),
    ] = None,
    prefix: Annotated[str, typer.Option("--prefix", help="Only keys that begin so.", show_default="all keys")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.0, help="Seconds to wait for an answer.")] = 600.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Bring values back as they were. It is one new revision, which nobody sees a part of, and the history stays.

    Example:  quorate rollback --to-revision 1200 --prefix config/ --dry-run

    Keys that changed are put as they were, keys that came since are deleted, and keys that went are there again. With
    --to-time it is the newest revision that is known to have been there at that time. Many keys take a while, in which
    reads go on and other commands wait. To undo it, roll back to the revision before, which is printed.

    With --json: {"revision", "before", "to_revision", "to_time_ns", "puts", "deletes", "digest"}; with --dry-run there
    is no "before", and {"keys": [{"key", "is_delete"}]} has the first 1,000.

    Exit code: 0 done, 1 no revision is known to be as old as --to-time, 2 wrong use, or the history does not have the
    revision, 3 no quorum or nobody to reach (where it may have taken effect, the text says so).
    """
    from quorate.cli.times import format_time, parse_time

    if (to_revision is None) == (to_time is None):
        fail("say to what: --to-revision, or --to-time", Code.WRONG_USE)
    try:
        at_ns = 0 if to_time is None else max(1, parse_time(to_time))
    except ValueError as error:
        fail(str(error), Code.WRONG_USE)
    key = os.fsencode(prefix)

    async def work(client: AsyncClient) -> tuple[TimeMark | None, RollbackPlan | RollbackResult]:
        at = None if to_revision is not None else (await client.history(at_ns=at_ns)).at
        if to_revision is None and at is None:
            fail(f"the history has no revision as old as {to_time}. See: quorate history", Code.NO)
        then = to_revision if at is None else at.revision
        assert then is not None
        if dry_run:
            return at, await client.plan_rollback(then, key, limit=1000 if json else NAMED)
        return at, await client.rollback(then, key, who=_caller())

    at, found = ask(work, endpoints, timeout_s, faults)
    if json:
        print_json(_as_json(at, found))
        return
    when = "" if at is None else f", which was there at {format_time(at.time_ns)}"
    would = "would be " if dry_run else ""
    typer.echo(
        f"{found.puts} keys {would}put and {found.deletes} {would}deleted, as of revision {found.to_revision}{when}"
    )
    _print_rest(found)


def _caller() -> str:
    """By its own word."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:256]


def _as_json(at: TimeMark | None, found: RollbackPlan | RollbackResult) -> dict[str, Any]:
    import msgspec

    fields = msgspec.structs.asdict(found)
    keys = fields.pop("keys", None)
    named = {} if keys is None else {"keys": [{**as_json("key", one.key), "is_delete": one.is_delete} for one in keys]}
    return {**fields, "digest": found.digest.hex(), "to_time_ns": None if at is None else at.time_ns, **named}


def _print_rest(found: RollbackPlan | RollbackResult) -> None:
    from quorate.machines.kv.commands import RollbackResult

    if isinstance(found, RollbackResult):
        if found.revision == found.before:
            typer.echo("nothing was otherwise, so there is no new revision")
        else:
            typer.echo(f"revision {found.revision}. To undo it:  quorate rollback --to-revision {found.before}")
        return
    for one in found.keys:
        typer.echo(f"  {'delete' if one.is_delete else 'put   '} {os.fsdecode(one.key)}")
    more = found.puts + found.deletes - len(found.keys)
    if more > 0:
        typer.echo(f"  and {more} more")
