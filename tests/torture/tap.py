"""A tap at the receivers: every proposal and vote that arrives at a node is written down before the node acts on it.

How it works. Links between nodes are encrypted, so nothing on the wire can read them. What a node's process receives is
recorded where its bytes become a message, in one write to a file that outlives a SIGKILL. What a node tells itself does
not come by here: a node's own journal has no part in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from quorate.kernel import Core
from quorate.kernel import Path as CorePath
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.messages import Decision, Prevote, Proposal, Votes
from quorate.runtime.codec import Codec

TAPPED: Final = (Proposal, Prevote, Votes, Decision)
"""All that carries signatures of proposals and votes; Precommit is a Prevote."""
_LENGTH_BYTES: Final = 4


class TappedCodec(Codec):
    """Writes down what it decodes of what others sent."""

    def __init__(self, core: type[Core], path: Path) -> None:
        super().__init__(core)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def decode_message(self, data: bytes | memoryview) -> tuple[CorePath, Any]:
        """As any codec."""
        path, message = super().decode_message(data)
        if isinstance(message, TAPPED):
            os.write(self._file, len(data).to_bytes(_LENGTH_BYTES, "little") + bytes(data))
        return path, message


def tapped(path: Path) -> Iterator[Any]:
    """The messages of a tap, in the order in which they arrived. A kill may have cut off the last."""
    codec, data, start = Codec(AppChain), path.read_bytes(), 0
    while start + _LENGTH_BYTES <= len(data):
        body = start + _LENGTH_BYTES
        start = body + int.from_bytes(data[start:body], "little")
        if start > len(data):
            return
        yield codec.decode_message(data[body:start])[1]
