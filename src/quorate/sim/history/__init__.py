"""Histories: what clients asked, what they were told, and when.

`events` holds the words (Event, Operation) and pairs the one into the other; `edn` and `files` read and write them.
"""

from quorate.sim.history.events import Event, HistoryError, Operation, pair, split_independent
from quorate.sim.history.history_files import Limits, format_event, read_history, write_history

__all__ = [
    "Event",
    "HistoryError",
    "Limits",
    "Operation",
    "format_event",
    "pair",
    "read_history",
    "split_independent",
    "write_history",
]
