"""The commands in the documents exist, with the options and arguments that are shown."""

import pytest
import typer

from quorate.cli.main import COMMANDS, app

from tests.docs.snippets import ROOT, documents, shell_lines, targets

GROUP = typer.main.get_command(app)


def wrong(words: list[str]) -> str | None:
    """Why the program would refuse these words, without doing what they say; None if it takes them."""
    program, *arguments = words
    if program == "make":
        unknown = {word for word in arguments if "=" not in word and not word.startswith("-")} - targets()
        return f"make has no target {', '.join(sorted(unknown))}" if unknown else None
    if program.rpartition("/")[2] != "quorate":
        return None
    if not arguments or arguments[0] not in COMMANDS:
        return f"no command in {words}"
    # The stored command parses; nothing is invoked.
    context = GROUP.make_context("quorate", arguments[:1], resilient_parsing=True)
    command = GROUP.get_command(context, arguments[0])  # type: ignore[attr-defined]
    try:
        command.make_context(arguments[0], arguments[1:])
    except Exception as error:  # typer's errors have no public base
        return f"{' '.join(words)}: {error}"
    return None


@pytest.mark.parametrize("path", documents())
def test_commands_exist(path: str) -> None:
    assert [why for words in shell_lines(path) if (why := wrong(words))] == []


def test_there_are_commands() -> None:
    programs = [words[0] for path in documents() for words in shell_lines(path)]
    assert programs.count("quorate") > 10


@pytest.mark.parametrize(
    "words",
    [
        ["quorate", "nothing"],
        ["quorate", "sim"],
        ["quorate", "sim", "raft", "--no-such-option"],
        ["quorate", "sim", "raft", "--nodes", "many"],
        ["quorate", "put", "only-a-key"],
        ["make", "no-such-target"],
    ],
)
def test_what_does_not_exist_is_noticed(words: list[str]) -> None:
    assert wrong(words)


def test_the_documents_are_found() -> None:
    found = documents()
    assert {"README.md", "ARCHITECTURE.md", "docs/README.md", "docs/simulation.md"} <= set(found)
    assert all((ROOT / path).is_file() for path in found)
