"""What the commands share: exit codes, options, how they ask a cluster and how they write bytes as JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from quorate.service.client.endpoints import DEFAULT_ENDPOINTS

if TYPE_CHECKING:
    from quorate.parts.crypto.keys import Signer
    from quorate.service.client.aio import Connection

T = TypeVar("T")


class Code(IntEnum):
    """How a command ends."""

    OK = 0
    NO = 1
    """It was done; the answer is no."""
    FAILED = 1
    """A node cannot go on."""
    WRONG_USE = 2
    UNAVAILABLE = 3
    """The cluster cannot be reached, or has no quorum."""


DEFAULT_ENDPOINTS_TEXT = ",".join(DEFAULT_ENDPOINTS)

EndpointsOption = Annotated[
    str,
    typer.Option(
        "--endpoints",
        "-e",
        envvar="QUORATE_ENDPOINTS",
        help="Client addresses of the nodes: host:port,host:port,...",
        show_default="those of `quorate up`",
    ),
]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.0, help="Seconds to wait for an answer.")]
FaultsOption = Annotated[
    int | None,
    typer.Option(
        "--faults",
        min=0,
        envvar="QUORATE_FAULTS",
        help="How many of the nodes may lie.",
        show_default="as many as they bear",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def fail(text: str, code: Code) -> NoReturn:
    """End the command with one line on stderr."""
    typer.echo(f"error: {text}", err=True)
    raise typer.Exit(code)


def ask(
    work: Callable[[Any], Awaitable[T]],
    endpoints: str,
    timeout_s: float,
    faults: int | None = None,
    key: Signer | None = None,
    cluster: str = "",
    kind: type[Connection] | None = None,
) -> T:
    """Run ``work`` with a client of this kind; None: an AsyncClient.

    An error of the cluster ends the command with its text and its exit code.
    """
    import asyncio

    from quorate.service.client import errors
    from quorate.service.client.aio import AsyncClient

    async def run(client: Connection) -> T:
        async with client:
            return await work(client)

    try:
        client = (kind or AsyncClient)(endpoints, timeout_s=timeout_s, faults=faults, key=key, cluster=cluster)
    except ValueError as error:
        fail(str(error), Code.WRONG_USE)
    try:
        return asyncio.run(run(client))
    except (errors.TooLarge, errors.Refused) as error:
        fail(str(error), Code.WRONG_USE)
    except errors.OutcomeUnknown as error:
        fail(f"outcome unknown: {error}", Code.UNAVAILABLE)
    except (errors.Busy, errors.NotTransferred) as error:
        fail(str(error), Code.UNAVAILABLE)
    except errors.NoQuorum as error:
        fail(f"no quorum: {error}. See: quorate status", Code.UNAVAILABLE)
    except errors.QuorateError as error:
        fail(f"{error}. Does the cluster run, and are the endpoints right ({endpoints})?", Code.UNAVAILABLE)


def hands_on(context: typer.Context) -> bool:
    """Whether a group has a subcommand to run, which takes the options that stood before it as its own."""
    if context.invoked_subcommand is None:
        return False
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name: context.params[name] for name, s in sources.items() if s is not None and s.name == "COMMANDLINE"}
    context.default_map = {context.invoked_subcommand: given}
    return True


def print_json(value: Any) -> None:
    """One JSON value on one line of stdout."""
    import msgspec

    typer.echo(msgspec.json.encode(value))


def as_json(field: str, value: bytes) -> Mapping[str, str]:
    """Bytes as a JSON field: ``field`` where they are UTF-8, else ``field_base64``. There is never both."""
    try:
        return {field: value.decode()}
    except UnicodeDecodeError:
        import base64

        return {f"{field}_base64": base64.b64encode(value).decode()}
