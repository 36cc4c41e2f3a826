"""`quorate bench`: put load on a cluster and say what it does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from quorate.cli.common import (
    DEFAULT_ENDPOINTS_TEXT,
    Code,
    EndpointsOption,
    FaultsOption,
    JsonOption,
    TimeoutOption,
    fail,
    print_json,
)

if TYPE_CHECKING:
    from quorate.service.load import Load, Measured


def bench(
    clients: Annotated[int, typer.Option(min=1, max=10_000, help="Clients that put one value after the other.")] = 200,
    connections: Annotated[
        int | None, typer.Option(min=1, help="Connections that they share.", show_default="one for each client")
    ] = None,
    duration_s: Annotated[float, typer.Option("--duration", min=0.1, help="Seconds to measure, after a warm-up.")] = 10,
    warm_up_s: Annotated[float, typer.Option("--warm-up", min=0.0, help="Seconds before that.")] = 1.0,
    puts: Annotated[int | None, typer.Option(min=1, help="End after so many, if that comes first.")] = None,
    key_bytes: Annotated[int, typer.Option(min=16, max=65_536, help="Size of the random keys.")] = 256,
    value_bytes: Annotated[int, typer.Option(min=0, max=1_500_000, help="Size of the values.")] = 1024,
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 10.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Put random keys for a while; print writes a second and latencies. The keys stay: use a cluster made for it.

    Example:  quorate bench --clients 200 --duration 10

    With --json: {"clients", "puts", "errors", "elapsed_s", "puts_per_s", "latency_ms_p50", "latency_ms_p99",
    "latency_ms_max"}. Exit code: 0 measured, 2 wrong use, 3 no quorum or nobody to reach.
    """
    from quorate.service.client.errors import QuorateError
    from quorate.service.load import Load

    if connections is not None and connections > clients:
        fail(f"{connections} connections for {clients} clients: some would have none", Code.WRONG_USE)
    load = Load(
        endpoints=tuple(endpoints.split(",")),
        clients=clients,
        connections=connections,
        duration_s=duration_s,
        warm_up_s=warm_up_s,
        puts_max=puts,
        key_bytes=key_bytes,
        value_bytes=value_bytes,
        timeout_s=timeout_s,
        faults=faults,
    )
    try:
        measured = _run(load)
    except ValueError as error:
        fail(str(error), Code.WRONG_USE)
    except QuorateError as error:
        fail(f"{error}. See: quorate status", Code.UNAVAILABLE)
    if json:
        print_json(measured)
    else:
        _print(measured)


def _run(load: Load) -> Measured:
    """On uvloop where it is installed: it halves what a connection costs."""
    from quorate.service.load import run_load

    with _progress() as progress:
        try:
            import uvloop
        except ImportError:
            return asyncio.run(run_load(load, progress))
        return uvloop.run(run_load(load, progress))


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[float], None] | None]:
    """A bar on stderr, where there is somebody to see it."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("putting", total=1.0)
        yield lambda share: bar.update(task, completed=share)


def _print(measured: Measured) -> None:
    typer.echo(
        f"{measured.puts_per_s:,.0f} writes/s ({measured.puts:,} in {measured.elapsed_s:.1f} s, "
        f"{measured.clients} clients, {measured.errors} errors)\n"
        f"latency: p50 {measured.latency_ms_p50:.2f} ms, p99 {measured.latency_ms_p99:.2f} ms, "
        f"longest {measured.latency_ms_max:.2f} ms"
    )
