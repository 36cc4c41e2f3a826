"""What disks are made of in simulated runs: the bytes and the recovery of the real journal, and planted bugs.

A bug of a disk is one of what stands between it and a core: the recovery that reads a journal, the journal that syncs,
the store that serves snapshots. So it is planted in every protocol.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from quorate.kernel import Core, Record
from quorate.runtime.codec import Codec
from quorate.runtime.errors import JournalCorrupt, StorageError
from quorate.runtime.files import Identity
from quorate.runtime.journal.recovery import Recovered, read_segment
from quorate.runtime.journal.segment import (
    FRAME_HEADER_SIZE,
    HEADER_SIZE,
    SegmentHeader,
    decode_header,
    encode_frames,
    encode_header,
)
from quorate.sim.damage import REFUSED, Lost, Refusal
from quorate.sim.disk import Disk
from quorate.sim.mutant import Mutant
from quorate.sim.snapshot_store import SimSnapshots
from quorate.sim.storage import Storage

IDENTITY = Identity("simulated", 0)
PATH = Path("00000001.journal")
SALT = b"salt"


class JournalMedium:
    """One segment of a real journal, in memory. Neither a file nor a sync is involved, so it costs microseconds."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec

    def encode(self, records: Sequence[Record]) -> bytes:
        """As a node does."""
        return self.codec.encode_records(records)

    def decode(self, frame: bytes) -> Sequence[Record]:
        """As a node does."""
        return self.codec.decode_records(frame)

    def image(
        self, checkpoint: Sequence[bytes] | None, writes: Sequence[Sequence[bytes]]
    ) -> tuple[bytearray, list[int]]:
        """As ``SegmentWriter`` writes them."""
        sealed = checkpoint or ()
        buffers, end = encode_frames(sealed, HEADER_SIZE, 1, SALT, sealed=True)
        header = SegmentHeader(IDENTITY, 1, 1, checkpoint is not None, len(sealed), SALT, end)
        data = bytearray(b"".join((encode_header(header), *buffers)))
        ends, sequence = [end], 1 + len(sealed)
        for frames in writes:
            buffers, end = encode_frames(frames, end, sequence, SALT)
            data += b"".join(buffers)
            ends.append(end)
            sequence += len(frames)
        return data, ends

    def read(self, data: bytes) -> list[bytes]:
        """As ``recover`` reads them."""
        recovered = Recovered([])
        try:
            header = decode_header(data[:HEADER_SIZE], PATH, IDENTITY)
            self.scan(data, header, recovered)
        except JournalCorrupt as error:
            raise Refusal(REFUSED, str(error), self._before(data[: error.offset])) from error
        except StorageError as error:
            raise Refusal(REFUSED, str(error)) from error
        return recovered.frames

    def _before(self, data: bytes) -> list[bytes]:
        """What a node keeps of a damaged segment, as ``runtime/repair.py`` cuts it: nothing within a checkpoint."""
        kept = Recovered([])
        with suppress(StorageError):
            header = decode_header(data[:HEADER_SIZE], PATH, IDENTITY)
            if len(data) >= header.sealed:
                read_segment(data, header, PATH, kept, last=True)
        return kept.frames

    def scan(self, data: bytes, header: SegmentHeader, recovered: Recovered) -> None:
        """Append the frames. Raises StorageError."""
        read_segment(data, header, PATH, recovered, last=True)


MEDIUMS: dict[type[Core], JournalMedium] = {}
"""What was made so far: a codec takes a while."""


def medium_of(core: type[Core]) -> JournalMedium:
    """The journals of nodes with this core."""
    medium = MEDIUMS.get(core)
    if medium is None:
        medium = MEDIUMS[core] = JournalMedium(Codec(core))
    return medium


# --- planted bugs ---


class CutsDamage(JournalMedium):
    """Breaks ADR 0003: only a torn end is cut. This one cuts at the first frame that is wrong, and starts."""

    def scan(self, data: bytes, header: SegmentHeader, recovered: Recovered) -> None:
        """As if a crash had torn it."""
        with suppress(JournalCorrupt):
            super().scan(data, header, recovered)


class BelievesDamage(JournalMedium):
    """Breaks what checksums are for: a frame that was changed is taken for what was written, and served to others."""

    def scan(self, data: bytes, header: SegmentHeader, recovered: Recovered) -> None:
        """With the checksum that the bytes of a damaged frame would have."""
        try:
            super().scan(data, header, recovered)
        except JournalCorrupt as error:
            at = error.offset
            length = int.from_bytes(data[at + 8 : at + 12], "little")
            end = at + FRAME_HEADER_SIZE + length
            if at < HEADER_SIZE or data[at : at + 4] != header.salt or end > len(data):
                raise
            found = zlib.crc32(data[at + 8 : end], at & 0xFFFFFFFF)
            changed = data[: at + 4] + found.to_bytes(4, "little") + data[at + 8 :]
            if changed == data:
                raise
            recovered.frames.clear()
            recovered.last_sequence = 0
            self.scan(changed, header, recovered)


class TrustsNextSync(Disk):
    """Breaks what failed syncs ask for: the process ends. This one goes on, as the next sync reports success.

    The system has marked the pages clean that it could not write (Rebello et al., USENIX ATC 2020).
    """

    def failed(self) -> None:
        """Say that it is durable."""
        write = self._writes + 1
        self._done()
        self.damage.append(Lost(write))


class ServesUnverified(SimSnapshots):
    """Breaks the rule that what is served was verified: this store reads its files and looks at no digest."""

    def verify(self, index: int) -> None:
        """It will do."""


def _with(medium: type[JournalMedium]) -> Callable[[Storage], Storage]:
    def sicken(storage: Storage) -> Storage:
        if not isinstance(storage.medium, JournalMedium):
            return storage  # no journal is damaged
        return msgspec.structs.replace(storage, medium=medium(storage.medium.codec))

    return sicken


MUTANTS = (
    Mutant("cuts-damage", "a node whose journal is damaged cuts it off there, and starts", storage=_with(CutsDamage)),
    Mutant("believes-damage", "a node takes a damaged entry for what was written", storage=_with(BelievesDamage)),
    Mutant(
        "trusts-next-sync",
        "a node whose sync failed goes on",
        storage=lambda storage: msgspec.structs.replace(storage, disk=TrustsNextSync),
    ),
)
"""For every protocol."""
MENDING_MUTANTS = (
    Mutant(
        "mends-votes",
        "a node that mends its folder votes on, as if it knew what it lost",
        storage=lambda storage: msgspec.structs.replace(storage, forgets=False),
    ),
)
"""For those whose nodes mend their folders."""
SNAPSHOT_MUTANTS = (
    Mutant(
        "serves-unverified",
        "a node serves and restores snapshots that it has not verified",
        storage=lambda storage: msgspec.structs.replace(storage, snapshots=ServesUnverified),
    ),
)
"""For those that take snapshots."""
