"""Text that belongs in no file: what ties the project to one machine, and what a merge left behind."""

import re
from collections.abc import Iterator

from .tree import Violation

# Not after a word character, so that the path of an address or of this repository is no match.
MACHINE_PATH = re.compile(r"(?<![\w.~}-])/(?:home|root|work|Users)/[\w.~-]")
INDEX_OPTION = re.compile(r"--(?:(?:extra-)?index-url|find-links|trusted-host)\b|\bPIP_(?:EXTRA_)?INDEX_URL\b")
INDEX_HOST = re.compile(r"\bpypi\.|\bpythonhosted\.|/simple/?(?=\s|$)", re.IGNORECASE)
CONFLICT_MARKER = re.compile(r"^(?:<{7}|>{7}|\|{7})(?: |$)")
ADDRESS = re.compile(r"\b\w+://")


def machine_paths(path: str, source: str) -> Iterator[Violation]:
    """No absolute path of somebody's machine."""
    for line, text in enumerate(source.splitlines(), 1):
        if found := MACHINE_PATH.search(text):
            what = f"names a folder of one machine, {text[found.start() :][:40]!r}"
            yield Violation(path, line, "machine-paths", what, "name it from the root of the repository")


def index_addresses(path: str, source: str) -> Iterator[Violation]:
    """No package index: which one to use is the business of the machine that installs."""
    is_pins = path.startswith("requirements/")
    for line, text in enumerate(source.splitlines(), 1):
        found = INDEX_OPTION.search(text) or INDEX_HOST.search(text) or (is_pins and ADDRESS.search(text))
        if found:
            what = f"names a package index, {found.group()!r}"
            yield Violation(path, line, "index-addresses", what, "leave it to pip's own configuration")


def conflict_markers(path: str, source: str) -> Iterator[Violation]:
    """No half-merged file, in documents least of all: nothing else would fail there."""
    for line, text in enumerate(source.splitlines(), 1):
        if CONFLICT_MARKER.match(text):
            yield Violation(
                path, line, "conflict-markers", "is what a merge left behind", "choose, and delete the markers"
            )
