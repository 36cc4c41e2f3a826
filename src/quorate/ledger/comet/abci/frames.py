"""ABCI on a stream of bytes: each message after its length, as a varint.

``engine_end`` and ``app_end`` are the two ends of a connection over it. ValueError is for a stream that cannot go on.

Source: CometBFT 0.38, ``spec/abci/abci++_client_server.md``.
"""

from __future__ import annotations

from typing import Final

from quorate.ledger.comet.abci.contents import ABCI_BYTES_MAX

LENGTH_BYTES_MAX: Final = 5


class FrameBuffer:
    """The bytes of a stream that are not yet a whole message: at most one message."""

    def __init__(self, bytes_max: int = ABCI_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now. Raises ValueError for a length that is too great, before its bytes come."""
        held = self._held
        held += data
        whole = []
        at = 0
        while (found := self._length(at)) is not None:
            start, size = found
            if len(held) < start + size:
                break
            at = start + size
            whole.append(bytes(held[start:at]))
        del held[:at]
        return whole

    @property
    def held_bytes(self) -> int:
        """How many bytes of a message that is not whole are here."""
        return len(self._held)

    def _length(self, at: int) -> tuple[int, int] | None:
        """Where the message after this place begins, and its length; None: more bytes must come."""
        size = 0
        for i, byte in enumerate(self._held[at : at + LENGTH_BYTES_MAX]):
            size |= (byte & 127) << 7 * i
            if size > self.bytes_max:
                raise ValueError(f"ABCI: a message of {size} bytes or more, at most {self.bytes_max}")
            if byte < 128:
                return at + i + 1, size
        if len(self._held) - at >= LENGTH_BYTES_MAX:
            raise ValueError(f"ABCI: a length of more than {LENGTH_BYTES_MAX} bytes")
        return None
