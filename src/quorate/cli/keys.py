"""`quorate put`, `get` and `delete`: keys and values are bytes, as the shell hands them over and takes them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quorate.cli.common import (
    DEFAULT_ENDPOINTS_TEXT,
    Code,
    EndpointsOption,
    FaultsOption,
    JsonOption,
    TimeoutOption,
    as_json,
    ask,
    fail,
    print_json,
)

if TYPE_CHECKING:
    from quorate.machines.kv.commands import KeyValue
    from quorate.service.client.aio import AsyncClient

PAGE_KEYS = 1000
FIRST_KEY = b"\0"

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Any bytes but none at all.")]


def put(
    key: KeyArgument,
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="Any bytes; - reads them from standard input, as they are.")
    ],
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 5.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Set a key. Prints OK, or with --json the store's revision: {"revision": 2}.

    Example:  quorate put greeting hello

    A value that begins with a dash comes after two:  quorate put -- offset -1

    Exit code: 0 done, 2 wrong use, 3 no quorum or nobody to reach (where it may have taken effect, the text says so).
    """
    data = _stdin() if value == "-" else os.fsencode(value)
    revision = ask(lambda client: client.put(_key(key), data), endpoints, timeout_s, faults)
    if json:
        print_json({"revision": revision})
    else:
        typer.echo("OK")


def get(
    key: KeyArgument,
    prefix: Annotated[
        bool, typer.Option("--prefix", help='All keys that begin with KEY; all there are for "".')
    ] = False,
    serializable: Annotated[
        bool, typer.Option("--serializable", help="Ask one node alone: needs no quorum, may be old.")
    ] = False,
    keys_only: Annotated[bool, typer.Option("--keys-only", help="Leave the values out.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=0, help="So many keys at most; 0: all.")] = 0,
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 5.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Read a key. Prints the value and a newline; with --prefix, keys and values on lines of their own.

    Example:  quorate get greeting

    With --json: {"revision": 7, "kvs": [{"key": "a", "value": "1", "create_revision": 2, ...}]}. A key or value that
    is not UTF-8 is in the field key_base64 or value_base64 instead.

    Exit code: 0 found, 1 not found, 2 wrong use, 3 no quorum or nobody to reach.
    """
    first, end = _range_of(key, prefix)
    options = {"keys_only": keys_only, "serializable": serializable}
    revision, kvs = ask(lambda client: _read(client, first, end, limit, options), endpoints, timeout_s, faults)
    if json:
        print_json({"revision": revision, "kvs": [_kv_as_json(kv, keys_only) for kv in kvs]})
    else:
        for kv in kvs:
            if prefix or keys_only:
                typer.echo(kv.key)
            if not keys_only:
                typer.echo(kv.value)
    if not kvs:
        typer.echo("not found", err=True)
        raise typer.Exit(Code.NO)


def delete(
    key: KeyArgument,
    prefix: Annotated[
        bool, typer.Option("--prefix", help='All keys that begin with KEY; every key there is for "".')
    ] = False,
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 5.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Delete a key. Prints how many keys were deleted; with --json {"deleted": 1}.

    Example:  quorate delete greeting

    Exit code: 0 deleted, 1 there was nothing to delete, 2 wrong use, 3 no quorum or nobody to reach (where it may have
    taken effect, the text says so).
    """
    first, end = _range_of(key, prefix)
    deleted = ask(lambda client: client.delete(first, end), endpoints, timeout_s, faults)
    if json:
        print_json({"deleted": deleted})
    else:
        typer.echo(deleted)
    if not deleted:
        raise typer.Exit(Code.NO)


def _key(text: str) -> bytes:
    if not text:
        fail("a key has at least one byte", Code.WRONG_USE)
    return os.fsencode(text)


def _range_of(key: str, prefix: bool) -> tuple[bytes, bytes]:
    """The first key, and the end of the range as etcd writes it; no end means that key alone."""
    from quorate.machines.kv.commands import prefix_end

    if not prefix:
        return _key(key), b""
    first = os.fsencode(key)
    return first or FIRST_KEY, prefix_end(first)


def _stdin() -> bytes:
    from quorate.machines.kv.commands import VALUE_BYTES_MAX

    data = sys.stdin.buffer.read(VALUE_BYTES_MAX + 1)
    if len(data) > VALUE_BYTES_MAX:
        fail(f"the value on standard input is larger than {VALUE_BYTES_MAX} bytes, the limit", Code.WRONG_USE)
    return data


async def _read(
    client: AsyncClient, first: bytes, end: bytes, limit: int, options: dict[str, bool]
) -> tuple[int, list[KeyValue]]:
    """All of a range, at one revision, in as many pages as it takes: an answer has a limit of bytes."""
    from quorate.service.client.errors import TooLarge

    kvs: list[KeyValue] = []
    revision, page = 0, PAGE_KEYS
    while True:
        try:
            most = min(page, limit - len(kvs)) if limit else page
            found = await client.range(first, end, limit=most, revision=revision, **options)
        except TooLarge:
            if page == 1:
                raise
            page //= 2
            continue
        revision = revision or found.revision
        kvs += found.kvs
        if not found.more or len(kvs) == limit:
            return revision, kvs
        first = kvs[-1].key + b"\0"


def _kv_as_json(kv: KeyValue, keys_only: bool) -> dict[str, Any]:
    numbers = {
        "create_revision": kv.create_revision,
        "mod_revision": kv.mod_revision,
        "version": kv.version,
        "lease": kv.lease,
    }
    return {**as_json("key", kv.key), **({} if keys_only else as_json("value", kv.value)), **numbers}
