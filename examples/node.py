"""One node of a replicated class, as a process of its own: what web workers and other programs `connect` to.

    python examples/node.py limiter.limits:ApiLimiter 1     # and 2 and 3, in other shells or on other machines

The class is named as module:class; modules are looked for beside this file. Node n of --nodes listens for the other
nodes at its address, and for clients at the next port. The node runs until Ctrl-C or SIGTERM. It may be killed in any
other way too: what it has acknowledged is in its folder, and the same command starts it again.
"""

import argparse
import signal
import sys
import threading
from importlib import import_module

from quorate import NodeFailed, Replicated, replicate

NODES = "127.0.0.1:7801,127.0.0.1:7803,127.0.0.1:7805"


def class_named(text: str) -> type[Replicated]:
    """The class that ``module:class`` names."""
    module, _, name = text.partition(":")
    kind = vars(import_module(module)).get(name)
    if not isinstance(kind, type) or not issubclass(kind, Replicated):
        raise argparse.ArgumentTypeError(f"{module} has no Replicated class {name!r}: write module:class")
    return kind


def main() -> int:
    parser = argparse.ArgumentParser(description="Run one node of a replicated class.")
    parser.add_argument("kind", type=class_named, help="the class, as module:class")
    parser.add_argument("node", type=int, help="which of the nodes this is, from 1")
    parser.add_argument("--nodes", default=NODES, help="addresses of all nodes, the same on each of them")
    parser.add_argument("--data", help="folder of this node; by default data/<class>/<node>")
    given = parser.parse_args()

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    replication = replicate(
        given.kind,
        node=given.node,
        nodes=dict(enumerate(given.nodes.split(","), 1)),
        data=given.data or f"data/{given.kind.__name__}/{given.node}",
    )

    failures: list[NodeFailed] = []

    @replication.on_failure  # its disk has failed, for example: end, so that a supervisor notices
    def stop(failure: NodeFailed) -> None:
        failures.append(failure)
        ended.set()

    with replication:
        print(f"node {given.node} serves clients at {replication.endpoint}", flush=True)
        ended.wait()
    for failure in failures:
        print(f"node {given.node} ended by itself: {failure}", file=sys.stderr)
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
