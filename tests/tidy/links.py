"""Markdown links inside the repository lead somewhere: the file is there, and so is the heading."""

import re
from collections.abc import Callable, Iterator
from posixpath import dirname, join, normpath
from urllib.parse import unquote

from .tree import Violation

INLINE = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+[\"'][^)]*)?\s*\)")
REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)>?")
HTML = re.compile(r"<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=[\"']([^\"'\s]+)")
CODE_SPAN = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
FENCE = re.compile(r"^\s*(```+|~~~+)")
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$")
EXPLICIT_ANCHOR = re.compile(r"<a\s+(?:id|name)=[\"']([^\"']+)")
ELSEWHERE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)

Read = Callable[[str], str | None]


def links(path: str, source: str, known: frozenset[str], read: Read) -> Iterator[Violation]:
    """Dead links of one Markdown file.

    `known` holds the files and folders of the repository; `read` gives the text of one of those files.
    """
    for line, text in _prose(source):
        plain = CODE_SPAN.sub("", text)
        targets = [*INLINE.findall(plain), *REFERENCE.findall(plain), *HTML.findall(plain)]
        for target in targets:
            if not ELSEWHERE.match(target) and (what := _dead(path, source, target, known, read)):
                yield Violation(path, line, "links", what, "point it at a file and heading that are there")


def _dead(path: str, source: str, target: str, known: frozenset[str], read: Read) -> str | None:
    name, _, anchor = target.partition("#")
    name = unquote(name)
    if not name:
        text: str | None = source
    else:
        goal = normpath(name.lstrip("/") if name.startswith("/") else join(dirname(path), name))
        if goal not in known:
            return f"the link to {target} leads nowhere"
        text = read(goal) if anchor and goal.endswith(".md") else None
    if anchor and text is not None and unquote(anchor) not in _anchors(text):
        return f"the link to {target} names a heading that is not there"
    return None


def _anchors(source: str) -> set[str]:
    """The anchors a forge gives to headings: lower case, punctuation gone, spaces to dashes, -1 on the second."""
    seen: dict[str, int] = {}
    anchors: set[str] = set()
    for _, text in _prose(source):
        anchors.update(EXPLICIT_ANCHOR.findall(text))
        if heading := HEADING.match(text):
            title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            count = seen[slug] = seen.get(slug, -1) + 1
            anchors.add(f"{slug}-{count}" if count else slug)
    return anchors


def _prose(source: str) -> Iterator[tuple[int, str]]:
    """Numbered lines outside fenced code."""
    fence = ""
    for line, text in enumerate(source.splitlines(), 1):
        mark = FENCE.match(text)
        if fence:
            if mark and mark[1].startswith(fence):
                fence = ""
        elif mark:
            fence = mark[1]
        else:
            yield line, text
