"""The limit, in a module of its own: both the nodes and the web workers import it."""

from quorate.objects import RateLimiter


class ApiLimiter(RateLimiter):
    """Lets 100 requests of each API key pass in any hour."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = 100
        self.per_s = 3600.0
