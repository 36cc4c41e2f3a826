"""A liar towards clients: it answers wrongly, with what is old, or not at all."""

from __future__ import annotations

from typing import Any

import msgspec

from quorate.sim.adversary.liar import Liar, Means
from quorate.sim.adversary.mutate import changed, passes


class Deceiving(Liar):
    """Lies to clients and is honest among nodes."""

    name = "deceiving"
    summary = "answers clients wrongly, with what is old, or not at all"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.2, 1.0)
        self._earlier: dict[type, Any] = {}

    def answer(self, response: Any) -> Any:
        """A value that is one off, an earlier answer under this one's number, or None."""
        means = self.means
        kind = type(response)
        earlier = self._earlier.get(kind)
        self._earlier[kind] = response
        if not means.chance(self.rate):
            return response
        means.count(self.name)
        draw = means.rng.random()
        if draw < 0.2:
            return None
        lie = None
        if draw < 0.6 and earlier is not None and hasattr(response, "id"):
            lie = passes(msgspec.structs.replace(earlier, id=response.id))
        if lie is None:
            lie = changed(response, means.rng, _another, (bytes,))
        return response if lie is None else lie


def _another(value: bytes, rng: Any) -> bytes | None:
    """Bytes of another value: what an answer holds is often msgpack."""
    try:
        known = msgspec.msgpack.decode(value)
    except msgspec.MsgspecError:
        known = None
    if type(known) is bool:
        return msgspec.msgpack.encode(not known)
    if type(known) is int:
        return msgspec.msgpack.encode(known + (1 if rng.random() < 0.5 else -1))
    if known is None and value:
        return msgspec.msgpack.encode(int(rng.random() * 100))
    return None
