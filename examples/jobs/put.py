"""Put jobs into the queue: python examples/jobs/put.py "some text" "another text"."""

import os
import sys

from quorate import connect
from quorate.objects import Queue

ENDPOINTS = os.environ.get("ENDPOINTS", "127.0.0.1:7802,127.0.0.1:7804,127.0.0.1:7806")  # the nodes' client ports


def main() -> None:
    with connect(Queue, ENDPOINTS, timeout_s=10) as queue:
        for text in sys.argv[1:]:
            print(f"job {queue.put(text)}: {text}")


if __name__ == "__main__":
    main()
