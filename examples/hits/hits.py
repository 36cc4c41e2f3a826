"""The object, in a module of its own: both the nodes and the web workers import it."""

from quorate import Replicated, command, read


class Hits(Replicated):
    """How often each page was asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, int] = {}

    @command
    def add(self, page: str) -> int:
        """Count one more; return how many there are now."""
        self.pages[page] = self.pages.get(page, 0) + 1
        return self.pages[page]

    @read
    def get(self, page: str) -> int:
        """How many there are."""
        return self.pages.get(page, 0)
