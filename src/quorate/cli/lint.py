"""`quorate lint FILE`: what in a replicated class is no function of its log."""

from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from quorate.trials.lint.classes import findings_of

FOUND: Final = 1
UNREADABLE: Final = 2
FILE_BYTES_MAX: Final = 4 << 20


def lint(
    file: Annotated[Path, typer.Argument(help="A Python file. It is read, and never run.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find what makes replicas differ: clocks, chance, files, the order of sets, state outside of the object.

    It looks at classes that derive from Replicated: their marked methods, __init__, migrate, and what these call in the
    same file.

    Example:  quorate lint counter.py

    Exit code: 0 nothing was found, 1 something was, 2 the file cannot be read.
    """
    try:
        if file.is_file() and file.stat().st_size > FILE_BYTES_MAX:
            raise ValueError(f"it has more than {FILE_BYTES_MAX:,} bytes")
        found = findings_of(file.read_bytes(), str(file))
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        typer.echo(f"error: cannot read {file}: {why}", err=True)
        raise typer.Exit(UNREADABLE) from None
    if json:
        typer.echo(msgspec.json.encode({"file": str(file), "findings": found}).decode())
    else:
        for one in found:
            typer.echo(f"{file}:{one.line}:{one.column}: {one.rule}: {one.what}: {one.why}. Instead: {one.instead}")
    if found:
        raise typer.Exit(FOUND)
