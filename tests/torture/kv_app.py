"""The kvstore behind a socket, in a process of its own: it keeps nothing when it is killed."""

import sys

from quorate import abci

if __name__ == "__main__":
    abci.serve(abci.KVStoreApp(), sys.argv[1])
