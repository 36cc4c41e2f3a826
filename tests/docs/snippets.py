"""The fenced blocks of the public documents, and the shell lines in them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "deploy/README.md", "docs/**/*.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)


class Block(NamedTuple):
    """One fenced block: its language ("" for none) and what is in it."""

    path: str
    language: str
    text: str


def documents() -> list[str]:
    """Every public document, from the root."""
    return sorted(str(path.relative_to(ROOT)) for pattern in DOCUMENTS for path in ROOT.glob(pattern))


def blocks(path: str, language: str) -> list[Block]:
    """The blocks of a document in one language, in order."""
    return [Block(path, *found) for found in FENCE.findall((ROOT / path).read_text()) if found[0] == language]


def shell_lines(path: str) -> list[list[str]]:
    """The words of each shell line of a document, without comments and redirections; empty lines are left out."""
    lines = [line for block in blocks(path, "sh") for line in block.text.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [found[: found.index(">")] if ">" in found else found for found in words if found]


def targets() -> set[str]:
    """The targets of the Makefile."""
    return set(TARGET.findall((ROOT / "Makefile").read_text()))
