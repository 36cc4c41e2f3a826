"""Objects of a state that change without telling, and the containers that hand them out.

A dataclass, a Struct or a model that is not frozen is kept as it is, and nothing is told when a field of it is
assigned. So its encoding is kept beside it, as the image in its `Hold`; whoever was handed the object in a call is
suspected, and at the end of the call the object is encoded again and compared. A container becomes a Holding one when
the first such object is put into it: the plain ones need not look at what they hand out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, SupportsIndex

from quorate.machines.objects.containers import ALL, TrackedDict, TrackedList


class Hold:
    """An object of the state, its place, and its encoding as of the last command."""

    __slots__ = ("count", "digest", "dirty", "image", "inner", "owner", "slot", "total", "value")

    def __init__(self, value: Any, image: bytes, inner: list[Any]) -> None:
        self.value = value
        self.image = image
        self.inner = inner
        self.owner: Any = None
        self.slot: Any = None
        self.count = 0
        self.dirty: dict[Any, Any] | None = {}
        self.digest: bytes | None = None
        self.total: int | None = None

    def at(self, slot: Any) -> bytes:
        """The image, whatever the slot."""
        return self.image

    def plain(self) -> bytes:
        """The image, which never changes itself."""
        return self.image

    def undo(self, slot: Any, old: bytes) -> None:
        """Take back the image; the object follows by it."""
        self.image = old


class HoldingDict(TrackedDict):
    """A dict of the state that has objects among its values."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        value = dict.__getitem__(self, key)
        self.ctx.handed.append(value)
        return value

    def get(self, key: Any, default: Any = None) -> Any:
        """As dict.get."""
        value = dict.get(self, key, default)
        self.ctx.handed.append(value)
        return value

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """As dict.setdefault."""
        value = super().setdefault(key, default)
        self.ctx.handed.append(value)
        return value

    def __iter__(self) -> Iterator[Any]:
        # That it is overridden keeps dict(...) and {**...} from copying past __getitem__.
        return dict.__iter__(self)

    def values(self) -> Any:
        """As dict.values."""
        self._hand_all()
        return dict.values(self)

    def items(self) -> Any:
        """As dict.items."""
        self._hand_all()
        return dict.items(self)

    def copy(self) -> dict[Any, Any]:
        """As dict.copy."""
        self._hand_all()
        return dict.copy(self)

    def __or__(self, other: Any) -> Any:
        self._hand_all()
        return dict.__or__(self, other)

    def __ror__(self, other: Any) -> Any:
        self._hand_all()
        return dict.__ror__(self, other)

    def _hand_all(self) -> None:
        self.ctx.handed.extend(dict.values(self))


class HoldingList(TrackedList):
    """A list of the state that has objects among its items."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        value = list.__getitem__(self, index)
        if type(index) is slice:
            self.ctx.handed.extend(value)
        else:
            self.ctx.handed.append(value)
        return value

    def __iter__(self) -> Iterator[Any]:
        self._hand_all()
        return list.__iter__(self)

    def __reversed__(self) -> Iterator[Any]:
        self._hand_all()
        return list.__reversed__(self)

    def copy(self) -> list[Any]:
        """As list.copy."""
        return self.__getitem__(ALL)  # type: ignore[no-any-return]

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        """As list.sort; the key function sees every object."""
        self._hand_all()
        super().sort(key=key, reverse=reverse)

    def __add__(self, other: Any) -> Any:
        return self.copy() + other

    def __radd__(self, other: Any) -> Any:
        return other + self.copy()

    def __mul__(self, times: SupportsIndex) -> Any:
        return self.copy() * times

    def __rmul__(self, times: SupportsIndex) -> Any:
        return self.copy() * times

    def _hand_all(self) -> None:
        self.ctx.handed.extend(list.__iter__(self))


HOLDING: dict[type, type] = {TrackedDict: HoldingDict, TrackedList: HoldingList}
