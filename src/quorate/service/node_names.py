"""Names of nodes, as people write them: n and the number, which is the node's identity."""

from __future__ import annotations

import re
from typing import Final

from quorate.kernel import NODE_ID_MAX

_NAME: Final = re.compile("n?([0-9]{1,4})")


def name_of(node: int) -> str:
    """Of a number."""
    return f"n{node}"


def number_of(name: str) -> int:
    """Of a name, or of a number. Raises ValueError that says what to write."""
    found = _NAME.fullmatch(name.strip())
    if found is None or int(found[1]) > NODE_ID_MAX:
        raise ValueError(
            f"{name[:40]!r} is not the name of a node: write n and a number up to {NODE_ID_MAX}, such as n4"
        )
    return int(found[1])
