"""The effects of a node in few words, as tests expect them."""

from typing import Any

from quorate.kernel import Record, Send


def to(nodes: int | tuple[int, ...], message: Any) -> Send:
    """One message on its way."""
    return Send((nodes,) if isinstance(nodes, int) else nodes, (), message)


def written(*values: Any) -> list[Record]:
    """Durable records of the root."""
    return [Record((), value) for value in values]
