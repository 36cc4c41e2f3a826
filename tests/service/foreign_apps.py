"""Apps that others wrote, unmodified, each in processes of its own; how to get them, and which calls they answer.

A node that lost its app must be started again, so these are killed and started as nodes are.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from quorate.ledger.comet.abci import request_messages as requests
from quorate.runtime.endpoints import Endpoint, parse_endpoint
from quorate.service.abci.app_client import AppClient

from tests.ports import free_base_port
from tests.processes import source_environment
from tests.service.abci_apps import START_S, until_listened_on
from tests.service.abci_cli import TOOL

E2E_APP = os.environ.get("ABCI_E2E_APP", "")
PYABCI = os.environ.get("PYABCI", "")
HAS_PYABCI = bool(PYABCI) or importlib.util.find_spec("abci") is not None

CALLS: Final = frozenset(
    {
        *(requests.RequestInfo, requests.RequestInitChain, requests.RequestQuery, requests.RequestCheckTx),
        *(requests.RequestPrepareProposal, requests.RequestProcessProposal),
        *(requests.RequestFinalizeBlock, requests.RequestCommit),
    }
)
"""That a node of ours puts to each app in any run."""
FURTHER: Final = frozenset(
    {
        *(requests.RequestExtendVote, requests.RequestVerifyVoteExtension),
        *(requests.RequestListSnapshots, requests.RequestLoadSnapshotChunk),
        *(requests.RequestOfferSnapshot, requests.RequestApplySnapshotChunk),
    }
)
"""That it puts to one that extends votes, or has snapshots. With CALLS these are the fourteen."""
RESTORING: Final = frozenset(
    {requests.RequestLoadSnapshotChunk, requests.RequestOfferSnapshot, requests.RequestApplySnapshotChunk}
)
"""Of those, what apps are asked where a new node is far behind."""


class ForeignApp(NamedTuple):
    """``command``: of one instance, from its endpoint and its folder. ``keeps``: whether its state outlives it.

    ``answers``: calls that must have been answered in a run, besides CALLS. The others of FURTHER may have been.
    """

    name: str
    is_here: bool
    cure: str
    command: Callable[[Endpoint, Path], Sequence[str]]
    kind: str = "unix"
    keeps: bool = True
    says_ready: bool = False
    answers: frozenset[type] = frozenset()


APPS: Final = (
    ForeignApp(
        "abci-cli kvstore",
        TOOL is not None,
        "name abci-cli of CometBFT 0.38 in ABCI_CLI",
        lambda at, folder: (str(TOOL), "--address", str(at), "kvstore", "--persist", str(folder / "state")),
    ),
    ForeignApp(
        "CometBFT's e2e app",
        bool(E2E_APP),
        "build tests/service/e2e_app.go and name the program in ABCI_E2E_APP",
        lambda at, folder: (E2E_APP, str(at), str(folder), "10", "3"),  # snapshots, and votes that are extended
        answers=FURTHER - RESTORING,
    ),
    ForeignApp(
        "pyABCI",
        HAS_PYABCI,
        "pip install --target FOLDER pyABCI==0.1.0, and name it in PYABCI",
        lambda at, folder: (sys.executable, str(Path(__file__).with_name("pyabci_kv.py")), str(at.port)),
        kind="tcp",
        keeps=False,
        says_ready=True,
    ),
)


def each_app() -> list[Any]:
    """For a test that takes one as its parameter; those that are not here are skipped."""
    return [
        pytest.param(app, id=app.name, marks=pytest.mark.skipif(not app.is_here, reason=f"{app.name}: {app.cure}"))
        for app in APPS
    ]


class Instances:
    """One of an app for each node, of nine at most. ``address`` is what nodes are configured with."""

    def __init__(self, app: ForeignApp, folder: Path) -> None:
        self._app = app
        self._folder = folder
        self.address = f"unix://{folder}/app{{node}}.sock"
        if app.kind == "tcp":
            self.address = f"tcp://127.0.0.1:{(free_base_port(20) + 9) // 10}{{node}}"
        self.running: dict[int, asyncio.subprocess.Process] = {}

    def endpoint(self, node: int) -> Endpoint:
        return parse_endpoint(self.address.replace("{node}", str(node)))

    async def start(self, *nodes: int) -> None:
        for node in nodes:
            at = self.endpoint(node)
            with (self._folder / f"app{node}.log").open("ab") as log:
                process = self.running[node] = await asyncio.create_subprocess_exec(
                    *self._app.command(at, self._state_of(node)), env=environment(),
                    stdout=asyncio.subprocess.PIPE if self._app.says_ready else log, stderr=log,
                )  # fmt: skip
            if self._app.says_ready:
                assert process.stdout is not None
                assert await asyncio.wait_for(process.stdout.readline(), START_S) == b"ready\n"
            else:
                await until_listened_on(at)

    def _state_of(self, node: int) -> Path:
        """Its folder. No socket is left of an instance that was killed."""
        folder = self._folder / f"app{node}"
        folder.mkdir(exist_ok=True)
        folder.with_suffix(".sock").unlink(missing_ok=True)
        return folder

    async def kill(self, *nodes: int) -> None:
        for node in nodes or tuple(self.running):
            process = self.running.pop(node)
            if process.returncode is None:
                process.kill()
            await process.wait()


def environment() -> dict[str, str]:
    """Of an app that is written in Python, too."""
    made = source_environment()
    made["PYTHONPATH"] = os.pathsep.join(filter(None, (made.get("PYTHONPATH"), PYABCI)))
    return made


def count_answers(monkeypatch: pytest.MonkeyPatch) -> Counter[type]:
    """By kind of request, how many the apps of this process' nodes have answered, from now on."""
    answered: Counter[type] = Counter()
    ask_all = AppClient.ask_all

    async def counted(client: AppClient, some: Sequence[Any], kind: Any) -> Any:
        answers = await ask_all(client, some, kind)
        answered.update(type(request) for request in some)
        return answers

    monkeypatch.setattr(AppClient, "ask_all", counted)
    return answered
