"""Addresses as people write them."""

_PORT_DIGITS_MAX = 5


def parse_address(text: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` to its parts. Raises ValueError that says what to write."""
    host, _, port = text.rpartition(":")
    is_number = port.isascii() and port.isdigit() and len(port) <= _PORT_DIGITS_MAX
    if not host or not is_number or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is no address: write host:port, for example 127.0.0.1:7401")
    return host.removeprefix("[").removesuffix("]"), int(port)
