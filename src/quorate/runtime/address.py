"""Addresses as people write them: ``host:port``, where host is a name, an IPv4 address, or an IPv6 address in brackets.

What is wrong with an address is found here, before it is looked up or dialled, and each error says what to write.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

HOST_CHARACTERS_MAX: Final = 253
"""RFC 1035, without the final dot."""
PORT_DIGITS_MAX: Final = 5
SHOWN_CHARACTERS_MAX: Final = 80
"""Of a wrong address, in the error."""
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")  # the underscore: container networks use it
_LOOKS_LIKE_IPV4: Final = re.compile(r"[0-9.]+")


def parse_address(text: str) -> tuple[str, int]:
    """The host, in its usual spelling and without brackets, and the port. Raises ValueError that says what to write."""
    try:
        return _parse(text)
    except _Wrong as wrong:
        shown = text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "..."
        examples = "write host:port, for example 127.0.0.1:7401, [::1]:7401 or node1.example:7401"
        raise ValueError(f"{shown!r} is not an address: {wrong}; {examples}") from None


def format_address(host: str, port: int) -> str:
    """The parts as ``parse_address`` reads them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def next_port(address: str) -> str:
    """The same host, at the port after it. Raises ValueError."""
    host, port = parse_address(address)
    if port == 65535:
        raise ValueError(f"there is no port after that of {address}: say which one, or choose a smaller one")
    return format_address(host, port + 1)


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is; None for a name, which has to be looked up."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_wildcard(host: str) -> bool:
    """Whether the host stands for all addresses of a machine: right for listening, and nothing that others can dial."""
    address = literal(host)
    return address is not None and address.is_unspecified


class _Wrong(Exception):
    """What is wrong with an address."""


def _parse(text: str) -> tuple[str, int]:
    if "://" in text:
        raise _Wrong(f"leave {text.partition('://')[0]}:// out")
    if text.startswith("["):
        inside, _, rest = text[1:].partition("]")
        if not rest.startswith(":"):
            raise _Wrong("the port is missing after the brackets" if "]" in text else "a bracket is not closed")
        return _ipv6(inside), _port(rest[1:])
    host, colon, port = text.rpartition(":")
    if not colon:
        raise _Wrong("the port is missing")
    if ":" in host:
        raise _Wrong("an IPv6 address stands in brackets")
    return _host(host), _port(port)


def _ipv6(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except ValueError:
        raise _Wrong(f"{text[:SHOWN_CHARACTERS_MAX]!r} is not an IPv6 address; names have no brackets") from None


def _host(text: str) -> str:
    host = text.lower()
    if not host:
        raise _Wrong("the host is missing")
    if not host.isascii():
        raise _Wrong("a host name is written in ASCII, in its xn-- form if need be")
    if _LOOKS_LIKE_IPV4.fullmatch(host):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise _Wrong("the host looks like an IPv4 address and is not one") from None
    name = host.removesuffix(".")
    if len(name) > HOST_CHARACTERS_MAX or not all(map(_LABEL.fullmatch, name.split("."))):
        raise _Wrong("the host is neither a name nor an IPv4 address")
    return host


def _port(text: str) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= PORT_DIGITS_MAX
    if not is_number or not 0 < int(text) < 65536:
        raise _Wrong("the port is a number from 1 to 65535")
    return int(text)
