"""Addresses: what is taken, in which spelling, and what is said of what is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.runtime.address import format_address, is_wildcard, parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:7401", ("127.0.0.1", 7401)),
        ("localhost:1", ("localhost", 1)),
        ("Node1.Example:65535", ("node1.example", 65535)),
        ("node1.example.:7401", ("node1.example.", 7401)),
        ("my_node-2:7401", ("my_node-2", 7401)),
        ("web.1:7401", ("web.1", 7401)),
        ("[::1]:7401", ("::1", 7401)),
        ("[2001:DB8:0::1]:7401", ("2001:db8::1", 7401)),
        ("[fe80::1%eth0]:7401", ("fe80::1%eth0", 7401)),
        ("[::]:7401", ("::", 7401)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected
    assert parse_address(format_address(*expected)) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the port is missing"),
        ("h", "the port is missing"),
        (":", "the host is missing"),
        (":1", "the host is missing"),
        ("h:", "the port is a number from 1 to 65535"),
        ("h:0", "the port is"),
        ("h:65536", "the port is"),
        ("h:-1", "the port is"),
        ("h:1x", "the port is"),
        ("h:+1", "the port is"),
        ("h: 1", "the port is"),
        ("h:²", "the port is"),
        ("h:" + "9" * 5000, "the port is"),
        ("::1:7401", "an IPv6 address stands in brackets"),
        ("::1", "an IPv6 address stands in brackets"),
        ("[::1]", "the port is missing after the brackets"),
        ("[::1]7401", "the port is missing after the brackets"),
        ("[::1:7401", "a bracket is not closed"),
        ("[localhost]:7401", "'localhost' is not an IPv6 address; names have no brackets"),
        ("[]:7401", "is not an IPv6 address"),
        ("::1]:7401", "an IPv6 address stands in brackets"),
        ("10.0.0.256:7401", "looks like an IPv4 address and is not one"),
        ("10.0.0:7401", "looks like an IPv4 address"),
        ("http://h:7401", "leave http:// out"),
        ("a b:7401", "neither a name nor an IPv4 address"),
        ("a..b:7401", "neither a name"),
        ("-a:7401", "neither a name"),
        ("x" * 64 + ":7401", "neither a name"),
        (".".join(["abcdefgh"] * 29) + ":7401", "neither a name"),
        ("knoten-ü:7401", "in its xn-- form"),
        ("h/x:7401", "neither a name"),
        ("a\n:7401", "neither a name"),
    ],
)
def test_what_is_not_an_address_is_said_with_what_to_write(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="is not an address") as caught:
        parse_address(text)
    said = str(caught.value)
    assert problem in said
    assert said.endswith("; write host:port, for example 127.0.0.1:7401, [::1]:7401 or node1.example:7401")
    assert len(said) < 400


@given(st.text(max_size=40) | st.text("[]:.%0123456789abfh-", max_size=40))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        host, port = parse_address(text)
    except ValueError:
        return
    assert parse_address(format_address(host, port)) == (host, port)


def test_wildcards() -> None:
    assert all(map(is_wildcard, ("0.0.0.0", "::", "0:0::0")))
    assert not any(map(is_wildcard, ("127.0.0.1", "::1", "localhost", "")))
