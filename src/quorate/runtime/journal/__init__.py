"""A node's journal: opaque frames, each durable as a whole and in order, since the last checkpoint.

`segment` is the file format, `recovery` reads it back after a crash, `writer` makes it grow, `checkpoint` writes what
replaces it while it grows, `journal` puts a thread between the event loop and the disk. None of them knows what is in a
frame.
"""

from quorate.runtime.files import Identity
from quorate.runtime.journal.journal import Journal
from quorate.runtime.journal.recovery import Recovered
from quorate.runtime.journal.segment import FRAME_SIZE_BYTES_MAX

__all__ = ["FRAME_SIZE_BYTES_MAX", "Identity", "Journal", "Recovered"]
