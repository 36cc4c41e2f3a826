"""The watchdog: a loop that is held up is told, with where; a loop that is not costs next to nothing."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Iterator

import pytest

from quorate.runtime import watchdog as module
from quorate.runtime.watchdog import FRAMES_MAX, LOG_EVERY_S, Watchdog, place_of

from tests.cluster import until


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    watchdog = Watchdog()
    yield watchdog
    watchdog.stop()


def hold_up(seconds: float) -> None:
    """Python code that does not let go."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(100))


def test_a_stall_is_logged_with_where_it_was(
    watchdog: Watchdog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that is busy the loop may be held up elsewhere as well."""
    monkeypatch.setattr(module, "LOG_EVERY_S", 0.0)
    monkeypatch.setattr(module, "IDLE_PERIOD_S", 0.1)

    async def main() -> None:
        watchdog.start()
        await asyncio.sleep(0.05)
        hold_up(0.6)
        await asyncio.sleep(0.05)

    with caplog.at_level(logging.WARNING, "quorate.watchdog"):
        asyncio.run(main())
        record = until(lambda: next((one for one in caplog.records if "hold_up" in one.message), None), "a report")
    assert "test_watchdog.py" in record.message
    assert watchdog.longest_s > 0.3


def test_its_thread_ends_with_the_loop(watchdog: Watchdog) -> None:
    async def main() -> None:
        watchdog.start()

    asyncio.run(main())
    assert watchdog._thread is not None
    watchdog._thread.join(5)
    assert not watchdog._thread.is_alive()


def test_reports_are_few(watchdog: Watchdog, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "quorate.watchdog"):
        for number in range(5):
            watchdog.stalled(number * 1.0, 0.2 + number, "somewhere")
        watchdog.stalled(LOG_EVERY_S, 0.1, "elsewhere")
    first, second = (record.message for record in caplog.records)
    assert first == "the event loop was held up for 0.20 s in somewhere"
    assert second == (
        "the event loop was held up for 0.10 s in elsewhere; 4 more stalls since the last report, of up to 4.20 s"
    )
    assert (watchdog.stalls, watchdog.longest_s) == (6, 4.2)


def test_a_place_is_short() -> None:
    def deep(left: int) -> str:
        return place_of(sys._getframe()) if not left else deep(left - 1)

    assert deep(50).count("deep") == FRAMES_MAX
    assert place_of(None) == "a thread that is gone"
