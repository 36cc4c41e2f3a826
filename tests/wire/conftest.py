"""Both event loops for every test that asks for `run`."""

import importlib.util
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.wire.harness import run_on


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine to its end on one of the loops; fails if anything raised out of a callback."""
    if request.param == "uvloop" and importlib.util.find_spec("uvloop") is None:
        pytest.skip("uvloop is not installed")
    return lambda coroutine: run_on(request.param, coroutine)
