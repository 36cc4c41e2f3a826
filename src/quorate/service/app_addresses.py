"""Which ABCI app a node drives, as its configuration says it: `kvstore`, or the address of an app, one for each node.

In an address ``{node}`` becomes the node's number, and ``{port}`` 26658 for the first node, 10 more for each further
one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from quorate.runtime.endpoints import Endpoint, parse_endpoint

KVSTORE: Final = "kvstore"
"""The one that comes with the package and runs in the node's process."""
FIRST_PORT: Final = 26658
PORT_STEP: Final = 10
PLACES: Final = ("{port}", "{node}")


def app_of(text: str, node: int, nodes: Collection[int]) -> Endpoint | None:
    """The address of this node's app; None: the kvstore in its process. Raises ValueError that says what to write."""
    if text == KVSTORE:
        return None
    if "://" not in text:
        raise ValueError(f"{text[:100]!r} is not an app: write kvstore, tcp://host:port or unix:///path/of/a/socket")
    port = FIRST_PORT + PORT_STEP * sorted(nodes).index(node)
    return parse_endpoint(text.replace("{port}", str(port)).replace("{node}", str(node)))


def why_shared(text: str, nodes: int) -> str:
    """Why nodes on one machine cannot all have this; empty: they can. One app for several nodes would hear of each
    block as often as there are nodes."""
    if text == KVSTORE or nodes == 1 or any(place in text for place in PLACES):
        return ""
    return (
        f"{nodes} nodes cannot share the app at {text}: each needs its own. Write {{port}} or {{node}} in the address, "
        "as in tcp://127.0.0.1:{port}, and start an app for each node"
    )
