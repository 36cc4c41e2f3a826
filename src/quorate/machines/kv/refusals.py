"""Refusals: the errors a command or query can have as its result.

Codes are gRPC's and texts are etcd's to the letter (clients match on them), from etcd's `rpctypes`. A text is a
constant, never built from what a library said: replicas that run different library versions must agree.
"""

from __future__ import annotations

INVALID_ARGUMENT = 3
RESOURCE_EXHAUSTED = 8
OUT_OF_RANGE = 11


class KvError(Exception):
    """A command or query is refused. The machine turns it into an `Error` result."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def malformed() -> KvError:
    return KvError(INVALID_ARGUMENT, "quorate: malformed request, or one nested too deeply")


def empty_key() -> KvError:
    return KvError(INVALID_ARGUMENT, "etcdserver: key is not provided")


def too_large() -> KvError:
    return KvError(INVALID_ARGUMENT, "etcdserver: request is too large")


def result_too_large() -> KvError:
    return KvError(
        RESOURCE_EXHAUSTED,
        "quorate: the answer is larger than 2096128 bytes: ask for less at once, with a limit and page by page",
    )


def too_much() -> KvError:
    return KvError(
        RESOURCE_EXHAUSTED,
        "quorate: one command reads or deletes at most 2048 keys and reads at most 16 MiB: do it in several, a page "
        "of keys at a time",
    )


def old_range() -> KvError:
    return KvError(
        INVALID_ARGUMENT,
        "quorate: a command reads a range at the current revision only: ask for an older one with a query",
    )


def key_too_large() -> KvError:
    return KvError(INVALID_ARGUMENT, "quorate: key is longer than 65536 bytes")


def too_many_ops() -> KvError:
    return KvError(INVALID_ARGUMENT, "etcdserver: too many operations in txn request")


def duplicate_key() -> KvError:
    return KvError(INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request")


def compare_type() -> KvError:
    return KvError(INVALID_ARGUMENT, "quorate: a compare of VALUE takes bytes, any other an integer")


def query_writes() -> KvError:
    return KvError(INVALID_ARGUMENT, "quorate: a query can't write; propose it as a command")


def from_revision() -> KvError:
    return KvError(INVALID_ARGUMENT, "quorate: events start at revision 1 or later")


def compacted() -> KvError:
    return KvError(OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")


def future_revision() -> KvError:
    return KvError(OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
