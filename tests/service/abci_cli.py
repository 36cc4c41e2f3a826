"""CometBFT's own tool for ABCI: `abci-cli`, where there is one, to talk to our app and to be an app for our client.

Build it with `go install github.com/cometbft/cometbft/abci/cmd/abci-cli@v0.38.26`, and have it on the PATH or name it
in ABCI_CLI.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from quorate.runtime.endpoints import Endpoint

from tests.ports import free_ports
from tests.service.abci_apps import until_listened_on

TOOL = os.environ.get("ABCI_CLI") or shutil.which("abci-cli")
needs_abci_cli = pytest.mark.skipif(
    TOOL is None, reason="abci-cli of CometBFT 0.38 is not here, so nobody else checks our ABCI: name it in ABCI_CLI"
)


async def batch(endpoint: Endpoint, lines: str) -> str:
    """What `abci-cli batch` prints about these commands, put to an app."""
    assert TOOL is not None
    process = await asyncio.create_subprocess_exec(
        TOOL, "--address", str(endpoint), "--log_level", "error", "--verbose", "batch",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(lines.encode()), 30.0)
    assert process.returncode == 0, out
    return out.decode(errors="backslashreplace")


@asynccontextmanager
async def kvstore(folder: Path, kind: str = "tcp") -> AsyncIterator[Endpoint]:
    """CometBFT's kvstore, in a process of its own."""
    assert TOOL is not None
    endpoint = Endpoint("127.0.0.1", free_ports(1)[0]) if kind == "tcp" else Endpoint("", 0, str(folder / "theirs"))
    process = await asyncio.create_subprocess_exec(
        TOOL, "--address", str(endpoint), "kvstore", "--persist", str(folder / "data"),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await until_listened_on(endpoint)
        yield endpoint
    finally:
        process.kill()
        await process.wait()
