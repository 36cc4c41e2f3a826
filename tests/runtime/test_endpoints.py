"""Endpoints of TCP and Unix sockets: how they are written, and what is there already."""

import asyncio
import socket
import stat
from pathlib import Path

import pytest

from quorate.runtime.byte_streams import ByteConnection
from quorate.runtime.endpoints import UNIX_PATH_BYTES_MAX, Endpoint, offer, parse_endpoint, reach

from tests.ports import free_ports


@pytest.mark.parametrize(
    ("text", "endpoint", "again"),
    [
        ("tcp://127.0.0.1:26658", Endpoint("127.0.0.1", 26658), "tcp://127.0.0.1:26658"),
        ("127.0.0.1:26658", Endpoint("127.0.0.1", 26658), "tcp://127.0.0.1:26658"),
        ("tcp://[::1]:1", Endpoint("::1", 1), "tcp://[::1]:1"),
        ("unix:///run/app.sock", Endpoint("", 0, "/run/app.sock"), "unix:///run/app.sock"),
        ("unix://app.sock", Endpoint("", 0, "app.sock"), "unix://app.sock"),
    ],
)
def test_endpoints(text: str, endpoint: Endpoint, again: str) -> None:
    assert parse_endpoint(text) == endpoint
    assert str(endpoint) == again


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http://127.0.0.1:1", "write tcp://host:port or unix:///path"),
        ("tcp://127.0.0.1", "the port is missing"),
        ("unix://", "has 1 to 103 bytes, not 0"),
        ("unix:///" + "x" * UNIX_PATH_BYTES_MAX, "has 1 to 103 bytes, not 104"),
        ("unix:///a\0b", "is not an endpoint"),
    ],
)
def test_what_is_not_an_endpoint(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_endpoint(text)


class Echoing(ByteConnection):
    def on_bytes(self, data: bytes) -> None:
        self.write(data)
        self.close("said it")


class Asking(ByteConnection):
    def __init__(self) -> None:
        super().__init__()
        self.read = b""
        self.ended: asyncio.Future[str] = self.loop.create_future()

    def on_bytes(self, data: bytes) -> None:
        self.read += data

    def on_lost(self, why: str) -> None:
        self.ended.set_result(why)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_bytes_go_there_and_back(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        endpoint = Endpoint("127.0.0.1", 0) if kind == "tcp" else Endpoint("", 0, str(tmp_path / "app"))
        offered = await offer(endpoint, Echoing)
        asking = await reach(offered.endpoint, Asking, 5.0)
        asking.write(b"hello")
        assert await asking.ended == "closed by the other side"
        assert asking.read == b"hello"
        offered.close()
        assert not (tmp_path / "app").exists()
        with pytest.raises(OSError, match=rf"^{kind}://.* cannot be reached"):
            await reach(offered.endpoint, Asking, 5.0)

    asyncio.run(main())


def test_a_unix_socket_is_for_this_user_and_replaces_one_that_was_left(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "app"
        left = socket.socket(socket.AF_UNIX)
        left.bind(str(path))
        left.close()
        endpoint = Endpoint("", 0, str(path))
        offered = await offer(endpoint, Echoing)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(OSError, match="another program does"):
            await offer(endpoint, Echoing)
        offered.close()
        path.write_text("somebody's")
        with pytest.raises(OSError, match="a file that is not a socket"):
            await offer(endpoint, Echoing)
        assert path.read_text() == "somebody's"
        with pytest.raises(OSError, match=r"cannot listen on unix://.*No such file"):
            await offer(Endpoint("", 0, str(tmp_path / "no" / "app")), Echoing)

    asyncio.run(main())


def test_nobody_is_there() -> None:
    (port,) = free_ports(1)
    with pytest.raises(OSError, match=rf"tcp://127.0.0.1:{port} cannot be reached"):
        asyncio.run(reach(Endpoint("127.0.0.1", port), Asking, 5.0))
