"""What ``replicate`` is told, checked: each error names the argument, what is wrong with it, and what to write."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from quorate.parts.bounds import TIME_S_MAX
from quorate.protocols import REGISTRY
from quorate.runtime.address import format_address, is_wildcard, parse_address
from quorate.runtime.files import make_directory
from quorate.service.config import ConfigError, NodeConfig, from_mapping

EXAMPLE = '{1: "10.0.0.1:7801", 2: "10.0.0.2:7801", 3: "10.0.0.3:7801"}'


def checked_timeout(timeout_s: Any) -> float:
    """A number of seconds. Raises ConfigError."""
    is_number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
    if not is_number or not timeout_s > 0:
        raise ConfigError(f"timeout_s: {timeout_s!r} is not a number of seconds above 0")
    if timeout_s > TIME_S_MAX:
        raise ConfigError(f"timeout_s: {timeout_s!r} is more than a day; it is at most {TIME_S_MAX:g}")
    return float(timeout_s)


def node_config(
    *,
    node: int,
    nodes: Mapping[int, str],
    data: Path | str,
    cluster: str,
    protocol: str,
    protocol_options: Mapping[str, Any] | None,
    keys: Path | str | None,
    listen: str | None,
) -> NodeConfig:
    """The configuration of one node. Each node uses the port that ``nodes`` gives, and the next. Raises ConfigError."""
    _check_nodes(node, nodes)
    if not isinstance(data, str | os.PathLike) or not str(data):
        raise ConfigError(f"data: {data!r} is not a folder; leave it out for one that goes with the process")
    members = {str(number): _member(f"nodes[{number}]", text) for number, text in nodes.items()}
    if listen is not None:
        here = _member("listen", listen)
        members[str(node)] |= {"listen_peer": here["peer"], "listen_client": here["client"]}
    _check_ports(nodes)
    raw: dict[str, Any] = {"cluster": cluster, "node": node, "data": str(data), "protocol": protocol, "nodes": members}
    if keys is not None:
        raw["keys"] = str(keys)
    if protocol_options is not None and protocol in REGISTRY:
        raw[protocol] = dict(protocol_options)
    return from_mapping(raw)


def _check_nodes(node: Any, nodes: Any) -> None:
    if not isinstance(nodes, Mapping):
        raise ConfigError(f"nodes: {nodes!r} is not a dict from each node's number to its address: write {EXAMPLE}")
    for name, number in (("node", node), *(("nodes", key) for key in nodes)):
        if not isinstance(number, int) or isinstance(number, bool):
            raise ConfigError(f"{name}: {number!r} is not the number of a node: write an int, as in {EXAMPLE}")
    if node not in nodes:
        raise ConfigError(f"node: {node} is not among nodes, which has {', '.join(map(str, nodes))}")
    for number, text in nodes.items():
        where = f"nodes[{number}]"
        if not isinstance(text, str):
            raise ConfigError(f"{where}: {text!r} is not an address: write {EXAMPLE}")
        if is_wildcard(_parsed(where, text)[0]):
            cure = f"write the address at which the others reach node {number}, and on that node listen={text!r}"
            raise ConfigError(f"{where}: nobody can dial {text}: {cure}")


def _check_ports(nodes: Mapping[int, str]) -> None:
    taken: dict[tuple[str, int], int] = {}
    for number, text in nodes.items():
        host, port = parse_address(text)
        for used in (port, port + 1):
            other = taken.setdefault((host, used), number)
            if other != number:
                cure = "each node uses the port it is given and the next, so leave one free between them"
                raise ConfigError(f"nodes[{number}]: port {used} of {host} belongs to node {other}: {cure}")


def _member(where: str, text: str) -> dict[str, str]:
    host, port = _parsed(where, text)
    if port == 65535:
        raise ConfigError(f"{where}: {text}: a node uses the port it is given and the next, and 65535 has no next one")
    return {"peer": text, "client": format_address(host, port + 1)}


def _parsed(where: str, text: str) -> tuple[str, int]:
    try:
        return parse_address(text)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{where}: {error}") from None


def usable(folder: Path) -> None:
    """Make the folder if it is not there. Raises ConfigError where it cannot be one."""
    try:
        make_directory(folder.absolute())
    except FileExistsError as error:
        raise ConfigError(f"data: {error.filename} is a file: give a folder, which need not exist") from None
    except OSError as error:
        raise ConfigError(f"data: {folder} cannot be made: {error.strerror}: give one that can") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"data: {folder} cannot be written by this user: give a folder that can")


def keys_for_one(node: int, protocol: str, folder: Path) -> Path | None:
    """The keys of a node that is alone, kept beside its data; None where it needs none."""
    entry = REGISTRY.get(protocol)
    if entry is None or not entry.traits.has_keys:
        return None
    from quorate.runtime import key_files
    from quorate.runtime.keys import generate_secret

    keys = folder / "keys"
    if not (keys / key_files.KEYRING_NAME).exists():
        make_directory(keys.absolute())
        public = key_files.write_private_key(keys / key_files.private_key_name(node), node, generate_secret())
        key_files.write_keyring(keys / key_files.KEYRING_NAME, {node: public})
    return keys


def free_port() -> int:
    """A port with a free one behind it. Somebody may take them before we do; then the start fails, and says so."""
    for _ in range(64):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
    raise OSError("no two neighbouring ports are free on 127.0.0.1")


class ScratchFolder:
    """A folder that goes with the process that made it: not with a fork of it, which would take it away from there."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="quorate-"))
        self._end = weakref.finalize(self, _remove, self.path, os.getpid())

    def remove(self) -> None:
        """Now."""
        self._end()


def _remove(path: Path, pid: int) -> None:
    if os.getpid() == pid:
        with suppress(OSError):
            shutil.rmtree(path)
