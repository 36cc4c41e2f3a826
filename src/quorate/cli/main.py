"""The command line. A command is one line in COMMANDS and a function, or a Typer for a group, imported when called.

How it works. Typer reads a command's options off its function's signature, so the module must be imported for that: a
`put` would wait for the simulator. The group below imports what is asked for and nothing else; `--help` alone imports
all of them.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

COMMANDS: Final = {
    "up": "quorate.cli.up:up",
    "node": "quorate.cli.node:node",
    "put": "quorate.cli.keys:put",
    "get": "quorate.cli.keys:get",
    "delete": "quorate.cli.keys:delete",
    "status": "quorate.cli.status:status",
    "leader": "quorate.cli.leader:leader",
    "members": "quorate.cli.members:members",
    "backup": "quorate.cli.backup:backup",
    "history": "quorate.cli.history:history",
    "rollback": "quorate.cli.rollback:rollback",
    "recover": "quorate.cli.recover:recover_cluster",
    "doctor": "quorate.cli.doctor:doctor",
    "chain": "quorate.cli.chain:chain",
    "bench": "quorate.cli.bench:bench",
    "sim": "quorate.cli.sim:sim",
    "check": "quorate.cli.check:check",
    "lint": "quorate.cli.lint:lint",
    "keys": "quorate.cli.keyfiles:keys",
}
"""Name to module and function, in the order of `--help`."""

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


class LazyGroup(TyperGroup):
    """The commands of COMMANDS, each made when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in self.commands:
            module, _, function = COMMANDS[cmd_name].partition(":")
            self.commands[cmd_name] = _made(cmd_name, getattr(import_module(module), function))
        return self.commands[cmd_name]


def _made(name: str, command: Any) -> Any:
    """A command of its function, or a group of commands of its Typer."""
    if isinstance(command, typer.Typer):
        group: Any = typer.main.get_command(command)
        group.name = name
        for member in (group, *group.commands.values()):
            member.help = _reflowed(member.help)
        return group
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name, help=_reflowed(command.__doc__))(command)
    return typer.main.get_command(single)


def _reflowed(text: str) -> str:
    """One line a paragraph: the width is that of the terminal, not of the source."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)


def _version(wanted: bool) -> None:
    if wanted:
        from quorate import __version__

        typer.echo(f"quorate {__version__}")
        raise typer.Exit


@app.callback(cls=LazyGroup)
def quorate(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Consensus for Python: a replicated store, and the tools to break its protocols.

    Begin with a cluster of three nodes on this machine:  quorate up

    Exit codes: 0 done, 1 the answer is no (such as: key not found), 2 wrong use, 3 no quorum or nobody to reach.
    """


def main() -> None:
    """The entry point."""
    app(prog_name="quorate")
