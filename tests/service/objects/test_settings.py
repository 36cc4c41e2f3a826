"""What replicate and connect are told wrongly is told back, with what to write."""

import socket
from typing import Any

import pytest

import quorate
from quorate import ConfigError, connect, replicate

from tests.ports import free_pairs
from tests.service.objects.kinds import Counter, addresses

HERE = "127.0.0.1:21600"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"node": 4, "nodes": {1: HERE}}, r"^node: 4 is not among nodes, which has 1$"),
    ({"nodes": [HERE]}, r"^nodes: \['127.* is not a dict from each node's number to its address: write \{1: "),
    ({"nodes": {}}, r"^node: 1 is not among nodes"),
    (
        {"nodes": {1: "127.0.0.1"}},
        r"^nodes\[1\]: '127\.0\.0\.1' is not an address: the port is missing; write host:port",
    ),
    ({"nodes": {1: 7801}}, r"^nodes\[1\]: 7801 is not an address: write "),
    (
        {"nodes": {1: "127.0.0.1:65535"}},
        r"^nodes\[1\]: .*uses the port it is given and the next, and 65535 has",
    ),
    ({"nodes": {1: "127.0.0.1:0"}}, r"^nodes\[1\]: .* the port is a number from 1 to 65535"),
    (
        {"nodes": {1: HERE, 2: "127.0.0.1:21601"}},
        r"^nodes\[2\]: port 21601 of 127\.0\.0\.1 belongs to node 1: .*leave",
    ),
    ({"nodes": {1: HERE, 2: HERE}}, r"^nodes\[2\]: port 21600 of 127\.0\.0\.1 belongs to node 1"),
    ({"nodes": {1: "::1:7801"}}, r"an IPv6 address stands in brackets"),
    ({"nodes": {1: "0.0.0.0:7801"}}, r"nobody can dial 0\.0\.0\.0:7801: .* on that node listen='0\.0\.0\.0:7801'"),
    ({"nodes": {1: HERE}, "listen": "everywhere"}, r"^listen: 'everywhere' is not an address"),
    ({"node": "1", "nodes": {1: HERE}}, r"^node: '1' is not the number of a node: write an int"),
    ({"nodes": {"1": HERE}}, r"^nodes: '1' is not the number of a node: write an int"),
    ({"protocol": "rafft"}, r"^protocol: 'rafft' is not known; choose from raft, "),
    ({"protocol": "pbft", "nodes": addresses(4)}, r"^keys: .*quorate keys generate --nodes 4"),
    ({"protocol_options": {"heart_s": 1}}, r"heart_s"),
    ({"timeout_s": "3"}, r"^timeout_s: '3' is not a number of seconds above 0$"),
    ({"timeout_s": 0}, r"^timeout_s: 0 is not"),
    ({"timeout_s": float("nan")}, r"^timeout_s: nan is not"),
    ({"data": ""}, r"^data: '' is not a folder; leave it out"),
    ({"data": 7}, r"^data: 7 is not a folder"),
    ({"cluster": ""}, r"^cluster: a name of 1 to 128 bytes$"),
    ({"cluster": "x" * 200}, r"^cluster: a name of 1 to 128 bytes$"),
]


@pytest.mark.parametrize(("options", "text"), WRONG, ids=[text for _, text in WRONG])
def test_a_wrong_option_is_named_when_it_is_given(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        replicate(Counter, **options)


def test_an_option_that_does_not_exist_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="timout_s"):
        replicate(Counter, timout_s=3)  # type: ignore[call-arg]


def test_a_folder_that_cannot_be_one_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"^data: .*/file is a file: give a folder, which need not exist$"):
        replicate(Counter, data=tmp_path / "file").start()
    with pytest.raises(ConfigError, match=r"^data: .*/file is a file: give a folder"):
        replicate(Counter, data=tmp_path / "file" / "below").start()
    with replicate(Counter, data=tmp_path / "a" / "b" / "c") as counter:
        assert counter.add() == 1


def test_a_port_that_is_taken_is_named_with_what_to_do() -> None:
    for offset in (0, 1):
        (port,) = free_pairs(1)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", port + offset))
            taken.listen()
            with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port + offset}: .* another port"):
                replicate(Counter, nodes={1: f"127.0.0.1:{port}"}).start()


def test_an_address_that_is_not_here_says_how_to_listen_at_another() -> None:
    nodes = {1: "203.0.113.7:7801"}
    with pytest.raises(OSError, match=r'no such address.*listen="0\.0\.0\.0:7801"'):
        replicate(Counter, nodes=nodes).start()


def test_a_node_may_listen_elsewhere_than_others_reach_it() -> None:
    (port,) = free_pairs(1)
    with (replication := replicate(Counter, nodes={1: f"localhost:{port}"}, listen=f"127.0.0.1:{port}")) as counter:
        assert counter.add() == 1
        assert replication.endpoint == f"localhost:{port + 1}"


@pytest.mark.parametrize("endpoints", ["", "localhost", "http://127.0.0.1:1", ["127.0.0.1"]])
def test_endpoints_that_are_none_are_a_config_error(endpoints: Any) -> None:
    with pytest.raises(ConfigError, match=r"^endpoints: "):
        connect(Counter, endpoints)


def test_every_public_name_is_there() -> None:
    for name in quorate.__all__:
        assert getattr(quorate, name) is not None
    for name in ("NoQuorum", "Unreachable", "Refused", "TooLarge", "OutcomeUnknown", "SessionExpired", "Forked"):
        assert issubclass(getattr(quorate, name), quorate.QuorateError)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = quorate.Nothing
