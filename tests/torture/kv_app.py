"""The kvstore behind a socket, in a process of its own: it keeps nothing when it is killed, and ends with the test."""

import os
import sys
import threading

from quorate import abci


def end_with_the_test() -> None:
    """Which holds the other end of the standard input."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_the_test, daemon=True).start()
    abci.serve(abci.KVStoreApp(), sys.argv[1])
