"""A client's session: numbers its commands, so that each takes effect once however often it is sent. Pure."""

from quorate.service.requests import UNANSWERED_PER_SESSION_MAX, Apply, CloseSession, OpenSession, encode

INDEX_DIGITS_MAX = 18
"""An index is below 2**62; this many digits are."""


class ClientSession:
    """One session. A command is encoded once; a retry sends the same bytes."""

    __slots__ = ("_lowest", "_outstanding", "_serial", "id", "nonce")

    def __init__(self, nonce: int) -> None:
        self.id: int | None = None
        self.nonce = nonce
        self._serial = 0
        self._outstanding: dict[int, None] = {}
        self._lowest = 1  # of the outstanding; the next serial if there are none

    def opening(self) -> bytes:
        """The entry that opens the session."""
        return encode(OpenSession(self.nonce))

    def opened(self, data: bytes) -> None:
        """The answer to it. Raises ValueError where that is no index of a log."""
        if not data.isdigit() or len(data) > INDEX_DIGITS_MAX:
            raise ValueError("not the id of a session")
        self.id = int(data)

    def closing(self) -> bytes:
        """The entry that ends the session."""
        assert self.id is not None
        return encode(CloseSession(self.id))

    @property
    def has_room(self) -> bool:
        """Whether the replicas take one more: they keep the results from the lowest serial without an answer on.

        Else one command that waits long, while later ones are answered, would have those refused.
        """
        return self._serial + 1 - self._lowest < UNANSWERED_PER_SESSION_MAX

    def command(self, operation: bytes) -> tuple[int, bytes]:
        """A new command: its serial and its entry."""
        assert self.id is not None
        self._serial = serial = self._serial + 1
        self._outstanding[serial] = None
        return serial, encode(Apply(self.id, serial, self._lowest, operation))

    def answered(self, serial: int) -> None:
        """The answer came, or nobody waits for it any more: the replicas may forget it."""
        self._outstanding.pop(serial, None)
        if serial == self._lowest:
            # Serials were added in ascending order, so the first is the lowest.
            self._lowest = next(iter(self._outstanding), self._serial + 1)
