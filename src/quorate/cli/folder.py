"""The folder of a local cluster: its configuration, and what must be right before its nodes start.

DIR/cluster.toml is the configuration of all nodes and, with the cluster's name in it, the identity of their data:
a restart reads it. DIR/n1 holds the data of node 1, DIR/n1.log its log, DIR/keys the keys of all nodes where they sign.
One `quorate up` holds DIR/up.lock.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import time
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from quorate.ledger.genesis import TIME_STEP_S_MAX, Genesis
from quorate.protocols import REGISTRY
from quorate.runtime.address import format_address, parse_address
from quorate.runtime.errors import JournalLocked
from quorate.runtime.files import FolderLock, make_directory, replace_file
from quorate.runtime.listening import LOOKUP_TIMEOUT_S, bind_all
from quorate.runtime.names import NAMES
from quorate.service.app_addresses import app_of, why_shared
from quorate.service.comet.rpc_needs import why_unavailable
from quorate.service.config import NODES_MAX, ConfigError, NodeConfig, load
from quorate.service.ledger.genesis_table import genesis_lines

HOST: Final = "127.0.0.1"
KEYS_FOLDER: Final = "keys"
TREASURY_FILE: Final = "treasury.wallet"
WALLET_PASSWORD: Final = "QUORATE_WALLET_PASSWORD"
"""The variable of the environment that has the password of a wallet."""
TREASURY_UNITS: Final = 10**12
SUBSIDY: Final = 50
FEE_MIN: Final = 1
TIME_STEP_S_LIARS: Final = 7200
"""Bitcoin's bound for a block's time: two hours."""
ADMIN_FILE: Final = f"{KEYS_FOLDER}/admin.key"
PROTOCOL_DEFAULT: Final = "raft"
BASE_PORT_DEFAULT: Final = 7400
PEER_PORTS_ABOVE: Final = 100
"""Clients of node i are at base + i, its peers at base + 100 + i."""
RPC_PORT_DEFAULT: Final = 26657
"""CometBFT's."""
RPC_PORT_STEP: Final = 10


class FolderError(Exception):
    """The cluster cannot be started with this folder and these ports; the text says what to do."""


class Layout(NamedTuple):
    """What a local cluster is made of."""

    cluster: str
    nodes: int
    protocol: str
    base_port: int
    admin: str = ""
    """Public key of who may change the members, in hex; empty: nobody, or anybody where nodes do not sign."""
    began_s: int = 0
    """When the cluster was made, in seconds since 1970; 0: the default of its protocol, if that has to know."""
    app: str = ""
    """The ABCI app that its nodes drive, as their configuration has it; empty: none."""
    rpc_port: int = 0
    """Where the first node serves CometBFT's RPC, and each further one 10 higher; 0: none does."""

    ledger: Genesis | None = None
    """What the chain begins with that its nodes keep; None: keys and values."""

    def client(self, node: int) -> str:
        """Where clients reach a node."""
        return f"{HOST}:{self.base_port + node}"

    def peer(self, node: int) -> str:
        """Where the other nodes reach it."""
        return f"{HOST}:{self.base_port + PEER_PORTS_ABOVE + node}"

    def rpc_ports(self) -> list[int]:
        """Those of all nodes, in order."""
        return [self.rpc_port + RPC_PORT_STEP * place for place in range(self.nodes)] if self.rpc_port else []

    def toml(self) -> str:
        """The configuration; the same file serves every node."""
        lines = [
            "# Made by `quorate up`. Every node of this cluster runs with this file and its own --node.",
            f'cluster = "{self.cluster}"  # the data in this folder belongs to this name',
            "node = 1  # unless --node says otherwise",
            'data = "n{node}"  # beside this file',
            f'protocol = "{self.protocol}"',
        ]
        entry = REGISTRY[self.protocol]
        if entry.traits.has_keys:
            lines.append(f'keys = "{KEYS_FOLDER}"  # beside this file')
        if self.app:
            lines.append(f"app = {json.dumps(self.app)}  # of one kind at all nodes, from the first block on")
        rpc_ports = self.rpc_ports()
        for node in range(1, self.nodes + 1):
            lines += ["", f"[nodes.{node}]", f'peer = "{self.peer(node)}"', f'client = "{self.client(node)}"']
            if rpc_ports:
                lines.append(f'rpc = "{HOST}:{rpc_ports[node - 1]}"  # CometBFT\'s RPC')
        options = []
        if self.admin:
            options += [f"# who has the key in {ADMIN_FILE} may change the members", f'admins = ["{self.admin}"]']
        if entry.genesis_option and self.began_s:
            options.append(f"{entry.genesis_option} = {self.began_s}  # when the cluster was made; alike at all nodes")
        if options:
            lines += ["", f"[{self.protocol}]", *options]
        if self.ledger is not None:
            lines += ["", *genesis_lines(self.ledger)]
        return "\n".join(lines) + "\n"


class ClusterFolder:
    """A folder that is locked and has its configuration. ``close`` gives it free."""

    def __init__(
        self,
        folder: Path,
        nodes: int | None,
        protocol: str | None,
        base_port: int | None,
        app: str | None = None,
        rpc_port: int | None = None,
        has_ledger: bool = False,
    ) -> None:
        """None: as the folder has it, or the default. ``rpc_port`` 0: no RPC. ``has_ledger``: the nodes of a new
        cluster keep a ledger, those of an old one must. Raises FolderError.
        """
        self.path = folder
        self.config_path = folder / "cluster.toml"
        self.is_new = not self.config_path.exists()
        try:
            make_directory(folder.absolute())
            self._lock = FolderLock(folder / "up.lock")
        except JournalLocked as error:
            holder = f"process {error.pid}" if error.pid is not None else "another process"
            raise FolderError(f"{folder} is in use by another `quorate up`, {holder}. Stop it first") from None
        except OSError as error:
            raise FolderError(f"{folder} cannot be written: {error.strerror}. Choose another with --data") from None
        try:
            self.configs = self._settle(nodes, protocol, base_port, app, rpc_port, has_ledger)
            self.begins = not any(list(config.data.glob("journal/*.journal")) for config in self.configs)
            """Whether the nodes are to make their data folders. If one has its own, one without has lost it."""
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Let others use the folder."""
        self._lock.release()

    @property
    def endpoints(self) -> list[str]:
        """Where clients reach the nodes."""
        return [config.nodes[config.node].client for config in self.configs]

    def log_path(self, node: int) -> Path:
        """Where a node's output goes."""
        return self.path / f"n{node}.log"

    def _settle(
        self,
        nodes: int | None,
        protocol: str | None,
        base_port: int | None,
        app: str | None,
        rpc_port: int | None,
        has_ledger: bool,
    ) -> list[NodeConfig]:
        """The configuration of each node; written if there was none, checked against what is asked for if there was."""
        if self.is_new:
            if data := sorted(self.path.glob("n[0-9]*/")):
                raise FolderError(f"{data[0]} holds a node's data but {self.config_path} is missing. {_ELSEWHERE}")
            protocol = protocol or PROTOCOL_DEFAULT
            check_protocol(protocol)
            fewest = REGISTRY[protocol].traits.fault_model.nodes(1)
            name, now_s = f"local-{secrets.token_hex(4)}", int(time.time())
            usual = RPC_PORT_DEFAULT if app else 0
            asked = Layout(
                name,
                nodes or fewest,
                protocol,
                base_port or BASE_PORT_DEFAULT,
                began_s=now_s,
                app=app or "",
                rpc_port=usual if rpc_port is None else rpc_port,
            )
            check_layout(asked)
            if has_ledger:
                asked = asked._replace(ledger=make_genesis(self.path, name, protocol, now_s))
            self._write(asked._replace(admin=make_keys(asked, self.path)))
        try:
            first = load(self.config_path)
            self._check(first, nodes, protocol, app)
            if has_ledger and first.ledger is None:
                raise FolderError(f"{self.path} has a cluster that keeps no ledger. Leave out --ledger. {_ELSEWHERE}")
            self._move(first, base_port, rpc_port)
            return [load(self.config_path, node) for node in sorted(first.nodes)]
        except (ConfigError, OSError) as error:
            raise FolderError(str(error)) from None

    def _check(self, config: NodeConfig, nodes: int | None, protocol: str | None, app: str | None) -> None:
        if nodes is not None and nodes != len(config.nodes):
            there = len(config.nodes)
            raise FolderError(
                f"{self.path} has a cluster of {there} nodes, not {nodes}. Start it with --nodes {there}. {_ELSEWHERE}"
            )
        if protocol is not None and protocol != config.protocol:
            there_is = config.protocol
            raise FolderError(
                f"{self.path} has a cluster that speaks {there_is}, not {protocol}. "
                f"Start it with --protocol {there_is}. {_ELSEWHERE}"
            )

        if app is not None and app != config.app:
            there_is = f"the app {config.app}" if config.app else "no app"
            raise FolderError(
                f"{self.path} has a cluster with {there_is}, not {app or 'none'}. Leave out --app. {_ELSEWHERE}"
            )

    def _move(self, config: NodeConfig, base_port: int | None, rpc_port: int | None) -> None:
        """Give an existing cluster other ports, if they are asked for. Its name, and with it its data, stays."""
        admin = config.admins[0].hex() if config.admins else ""
        began_s = _began_s(config)
        ports = (_base_port(config), _rpc_port(config))
        wanted = (ports[0] if base_port is None else base_port, ports[1] if rpc_port is None else rpc_port)
        if wanted == ports:
            return
        name, count = config.cluster, len(config.nodes)
        old = Layout(name, count, config.protocol, ports[0], admin, began_s, config.app, ports[1], config.ledger)
        if self.config_path.read_text() != old.toml():
            raise FolderError(
                f"{self.config_path} was edited by hand: "
                "change the ports there, and leave --base-port and --rpc-port out"
            )
        new = old._replace(base_port=wanted[0], rpc_port=wanted[1])
        check_layout(new)
        self._write(new)

    def _write(self, layout: Layout) -> None:
        # Losing the name would lose the data that belongs to it, so this file is as durable as they are.
        try:
            replace_file(self.config_path, layout.toml().encode())
        except OSError as error:
            raise FolderError(f"{self.config_path} cannot be written: {error.strerror}") from None


BASE: Final = "--base-port"
_ELSEWHERE = "For another cluster choose another folder with --data"


def _began_s(config: NodeConfig) -> int:
    """As the protocol's options have it; 0 where they have none."""
    name = config.entry.genesis_option
    return int(msgspec.structs.asdict(config.options)[name]) if name and config.options is not None else 0


def _base_port(config: NodeConfig) -> int:
    """As the first node's client port has it."""
    first = min(config.nodes)
    return int(config.nodes[first].client.rpartition(":")[2]) - first


def _rpc_port(config: NodeConfig) -> int:
    """As the first node has it; 0: it serves no RPC."""
    rpc = config.nodes[min(config.nodes)].rpc
    return 0 if rpc is None else parse_address(rpc)[1]


def make_genesis(folder: Path, cluster: str, protocol: str, now_s: int) -> Genesis:
    """A chain all of whose money is in the treasury, a wallet in the folder. Raises FolderError."""
    from quorate.service.ledger.wallets import WalletError, new_wallet, wallet_address

    path = folder / TREASURY_FILE
    try:
        if not path.exists():
            new_wallet(path, os.environ.get(WALLET_PASSWORD, ""))
        address = wallet_address(path)
    except WalletError as error:
        raise FolderError(str(error)) from None
    traits = REGISTRY[protocol].traits
    step = TIME_STEP_S_LIARS if traits.is_byzantine else TIME_STEP_S_MAX
    return Genesis(cluster, now_s, address, ((address, TREASURY_UNITS),), SUBSIDY, FEE_MIN, step)


def make_keys(layout: Layout, folder: Path) -> str:
    """Keys for all nodes and an administrator, if nodes have keys, and if the folder has none yet.

    The public key of the administrator, in hex; empty where no member can change by one. Raises FolderError.
    """
    from quorate.runtime import key_files

    keys = folder / KEYS_FOLDER
    traits = REGISTRY[layout.protocol].traits
    if not traits.has_keys:
        return ""
    try:
        if not (keys / key_files.KEYRING_NAME).exists():
            admin = key_files.generate(keys, layout.nodes).admin_public
        else:
            admin = key_files.read_private_key(keys / key_files.ADMIN_NAME).public
        return admin.hex() if traits.members.by_admin else ""
    except key_files.KeyFileError as error:
        raise FolderError(str(error)) from None


def check_protocol(protocol: str) -> None:
    """Raises FolderError for one that there is not."""
    if protocol not in REGISTRY:
        raise FolderError(f"--protocol {protocol} is not known; choose from {', '.join(REGISTRY)}")


def check_layout(layout: Layout) -> None:
    """Raises FolderError for numbers that make no cluster."""
    check_protocol(layout.protocol)
    if not 1 <= layout.nodes <= NODES_MAX:
        raise FolderError(f"--nodes {layout.nodes}: a cluster has 1 to {NODES_MAX}")
    if layout.app:
        if REGISTRY[layout.protocol].app_core is None:
            raise FolderError(f"--app: {layout.protocol} drives no apps. Add --protocol {REGISTRY.with_apps()}")
        if why := why_shared(layout.app, layout.nodes):
            raise FolderError(f"--app: {why}")
        try:
            app_of(layout.app, 1, range(1, layout.nodes + 1))
        except ValueError as error:
            raise FolderError(f"--app: {error}") from None
    most = 65535 - PEER_PORTS_ABOVE - layout.nodes
    if not 0 <= layout.base_port <= most:
        raise FolderError(f"--base-port {layout.base_port}: choose from 0 to {most}")
    if layout.rpc_port:
        _check_rpc(layout)


def _check_rpc(layout: Layout) -> None:
    if REGISTRY[layout.protocol].app_core is None:
        raise FolderError(
            f"--rpc-port: {layout.protocol} serves no RPC. Add --protocol {REGISTRY.with_apps()}, or leave it out"
        )
    most = 65535 - RPC_PORT_STEP * layout.nodes
    if not 0 < layout.rpc_port <= most:
        raise FolderError(f"--rpc-port {layout.rpc_port}: choose from 0 (none) to {most}")
    first, above = layout.base_port + 1, layout.base_port + PEER_PORTS_ABOVE + 1
    others = {*range(first, first + layout.nodes), *range(above, above + layout.nodes)}
    if taken := sorted(others.intersection(layout.rpc_ports())):
        raise FolderError(f"--rpc-port {layout.rpc_port}: {taken[0]} is a port for clients or peers. Choose another")


def check_ports(configs: list[NodeConfig], wait_s: float = 0.0) -> None:
    """Raises FolderError if a port of a node is taken, and is not given free within ``wait_s``."""
    deadline = time.monotonic() + wait_s
    for config in configs:
        uses = [("clients", config.listen_client(), BASE), ("peers", config.listen_peer(), BASE)]
        if (rpc := config.listen_rpc()) is not None and not why_unavailable():
            uses.append(("RPC", rpc, "--rpc-port"))
        for use, address, option in uses:
            while (error := _cannot_bind(*address)) is not None:
                if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                why = _why_not(error, option)
                raise FolderError(f"{format_address(*address)}, the port of node {config.node} for its {use}: {why}")


def _cannot_bind(host: str, port: int) -> OSError | None:
    try:
        for sock in bind_all(host, NAMES.addresses_now(host, port, LOOKUP_TIMEOUT_S), port):  # as the node will
            sock.close()
    except OSError as error:
        return error
    return None


def _why_not(error: OSError, option: str) -> str:
    if error.errno == errno.EADDRINUSE:
        cure = f"Stop what uses it (`ss -ltnp` shows), or choose other ports with {option}"
        return f"in use by another program. {cure}"
    return f"{error.strerror or error}. Change it in the folder's cluster.toml"
