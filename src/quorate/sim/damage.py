"""What disks do to a journal that was durable, and how a node reads it then.

How it works. While nothing is damaged a simulated journal is a list of frames. When a node starts on a damaged one, its
frames are written as the bytes of a real journal, the damage is done to these bytes, and the real recovery reads them:
a Medium lends both. So what is refused, what is cut and what is not noticed are the real journal's decisions.

Some damage no journal can see (ADR 0014): the loss of the last write. A node that would go on without a word lacks what
it has promised, which no protocol here bears. The simulator knows, and never lets it start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol as Interface

import msgspec

from quorate.kernel import Record
from quorate.sim.checkers.base import Violation

REFUSED = "refused to start"
ENDED = "ended by its disk"
UNNOTICED = "lost in silence"
CORRUPT = "nothing corrupt is believed"


class Refusal(Exception):
    """A node cannot start, or cannot go on. ``how`` is REFUSED, ENDED or UNNOTICED; the text is for a person.

    ``frames`` are those that stand before the damage, as bytes; ``kept`` the same as records.
    """

    def __init__(self, how: str, text: str, frames: Sequence[bytes] = ()) -> None:
        super().__init__(text)
        self.how = how
        self.frames = frames
        self.kept: Sequence[Sequence[Record]] = ()


class JournalImage(msgspec.Struct):
    """The bytes of a journal. ``writes``: by number of the write, where its bytes begin and end."""

    data: bytearray
    writes: dict[int, tuple[int, int]]


class Medium(Interface):
    """What makes bytes of a journal and reads them again."""

    def encode(self, records: Sequence[Record]) -> bytes:
        """One frame."""

    def decode(self, frame: bytes) -> Sequence[Record]:
        """The records of a frame."""

    def image(
        self, checkpoint: Sequence[bytes] | None, writes: Sequence[Sequence[bytes]]
    ) -> tuple[bytearray, list[int]]:
        """A journal of these writes, each of some frames, after a checkpoint or none.

        Also where each ends, in order; the first to end is the header, with the checkpoint.
        """

    def read(self, data: bytes) -> list[bytes]:
        """The frames that a node recovers. Raises Refusal."""


class Damage(msgspec.Struct, frozen=True, tag=True):
    """Something that happened to the bytes of a journal."""

    def do(self, image: JournalImage) -> None:
        """Do it. Raises Refusal where the bytes cannot even be read."""


class Flipped(Damage, frozen=True):
    """One bit is another. ``at`` is where in the file, from 0 to 1."""

    at: float

    def do(self, image: JournalImage) -> None:
        """Whatever lies there. An empty file has no bit that could."""
        bits = len(image.data) * 8
        if not bits:
            return
        bit = min(bits - 1, int(self.at * bits))
        image.data[bit // 8] ^= 1 << bit % 8


class Lost(Damage, frozen=True):
    """A write that was reported durable never reached the disk. Where it belongs are zeros, or the end of the file."""

    write: int

    def do(self, image: JournalImage) -> None:
        """Nothing happens if a checkpoint has replaced it."""
        begin, end = image.writes.get(self.write, (0, 0))
        if end == len(image.data):
            del image.data[begin:]
        else:
            image.data[begin:end] = bytes(end - begin)


class Misdirected(Damage, frozen=True):
    """A write went to another place of the same file, over what was there. ``at`` is where, from 0 to 1."""

    write: int
    at: float

    def do(self, image: JournalImage) -> None:
        """Both places are damaged."""
        begin, end = image.writes.get(self.write, (0, 0))
        moved = bytes(image.data[begin:end])
        Lost(self.write).do(image)
        to = int(self.at * len(image.data))
        image.data[to : to + len(moved)] = moved


class Unreadable(Damage, frozen=True):
    """The disk reports an error where the file is read."""

    def do(self, image: JournalImage) -> None:
        """As the operating system does."""
        raise Refusal(REFUSED, "the disk cannot read the journal: input/output error")


class Pages(Interface):
    """A simulated journal (``disk.py``)."""

    journal: list[Sequence[Record]]
    numbers: list[int]
    acknowledged: int
    begins_with_checkpoint: bool
    damage: list[Damage]


def read_damaged(pages: Pages, medium: Medium) -> list[Sequence[Record]]:
    """What a node that starts recovers from a damaged journal, frame by frame. Raises Refusal.

    Raises Violation if it recovers what was never written, or starts without what was durable and is not damaged.
    """
    checkpoint, frames, image = _image(pages, medium)
    before = bytes(image.data)
    for damage in pages.damage:
        damage.do(image)
    sealed = checkpoint or []
    first = 0 if checkpoint is None else 1
    try:
        found = medium.read(bytes(image.data))
    except Refusal as refusal:
        kept = refusal.frames
        _check_written(kept, [*sealed, *frames])
        if kept and len(kept) >= len(sealed):
            refusal.kept = [*pages.journal[:first], *(medium.decode(frame) for frame in kept[len(sealed) :])]
        raise
    _check_written(found, [*sealed, *frames])
    if len(found) < len(sealed):
        raise Violation(CORRUPT, f"a node starts with {len(found)} records of a checkpoint of {len(sealed)}")
    count = first + len(found) - len(sealed)
    if count < pages.acknowledged:
        lost = set(pages.numbers[count : pages.acknowledged])
        if not lost <= _touched(image, before):
            raise Violation(
                CORRUPT,
                f"a node starts with {count} frames of {pages.acknowledged} that were durable; what is damaged is not "
                f"the end alone: {pages.damage}",
            )
        raise Refusal(UNNOTICED, f"the last write is gone, and nothing shows it: {pages.acknowledged - count} frames")
    return [*pages.journal[:first], *(medium.decode(frame) for frame in found[len(sealed) :])]


def _check_written(found: Sequence[bytes], frames: Sequence[bytes]) -> None:
    if list(found) != frames[: len(found)]:
        raise Violation(CORRUPT, f"a node recovers {len(found)} frames, and not all of them are what it wrote")


def _image(pages: Pages, medium: Medium) -> tuple[list[bytes] | None, list[bytes], JournalImage]:
    """The frames of the checkpoint, all other frames, and the bytes of both."""
    checkpoint = None
    first = 1 if pages.begins_with_checkpoint else 0
    if first:
        checkpoint = [medium.encode((record,)) for record in pages.journal[0]]
    frames = [medium.encode(records) for records in pages.journal[first:]]
    groups: dict[int, list[bytes]] = {}
    for number, frame in zip(pages.numbers[first:], frames, strict=True):
        groups.setdefault(number, []).append(frame)
    data, ends = medium.image(checkpoint, list(groups.values()))
    writes = {number: (ends[place], ends[place + 1]) for place, number in enumerate(groups)}
    if first:
        number = pages.numbers[0]  # what came with it counts as a part of it
        writes[number] = (0, writes.get(number, (0, ends[0]))[1])
    return checkpoint, frames, JournalImage(data, writes)


def _touched(image: JournalImage, before: bytes) -> set[int]:
    """The writes whose bytes are not what they were."""
    return {number for number, (begin, end) in image.writes.items() if image.data[begin:end] != before[begin:end]}
