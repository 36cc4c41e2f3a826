"""A process that appends numbered frames until it is killed, and prints the count of those that are durable.

Arguments: the folder. Each frame is its number in the whole life of the journal and a filler. Every 300 frames a
checkpoint replaces them by their count.
"""

import os
import sys
import threading

from quorate.runtime.journal import Journal

from tests.storage.helpers import IDENTITY


def content(number: int) -> bytes:
    return b"%d " % number + bytes(number * 37 % 900)


def count(frames: list[bytes]) -> int:
    """How many frames the journal has ever held; fails unless the recovered ones are an unbroken run."""
    base = int(frames[0].removeprefix(b"checkpoint ")) if frames and frames[0].startswith(b"checkpoint ") else 0
    rest = frames[1:] if base else frames
    assert rest == [content(base + position + 1) for position in range(len(rest))]
    return base + len(rest)


def main() -> None:
    done: dict[int, int] = {}
    space = threading.Semaphore(200)

    def report(sequence: int) -> None:
        for waiting in [key for key in list(done) if key <= sequence]:
            os.write(1, b"%d\n" % done.pop(waiting))
            space.release()

    journal, frames = Journal.open(sys.argv[1], identity=IDENTITY, segment_size_bytes=20_000, on_durable=report)
    number = count(frames)
    os.write(1, b"%d\n" % number)
    while True:
        space.acquire()
        if number % 300 == 299:
            done[journal.last_sequence + 2] = number
            journal.checkpoint([b"checkpoint %d" % number])
            space.acquire()
        number += 1
        done[journal.last_sequence + 1] = number
        journal.append(content(number))


if __name__ == "__main__":
    main()
