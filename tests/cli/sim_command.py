"""`quorate sim` in this process."""

import typer
from typer.testing import CliRunner

from quorate.cli.sim import sim

app = typer.Typer()
app.command()(sim)


def call(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr
