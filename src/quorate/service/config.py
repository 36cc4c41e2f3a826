"""A node's configuration, as one TOML file that may be the same on all machines but for one line.

cluster = "example"           # nodes of different clusters refuse each other
node = 1                      # which of [nodes] this is
data = "/var/lib/quorate"     # journal, snapshots and working files; one folder a node
                              # "{node}" in it becomes the number; a relative one begins at the file's own folder
protocol = "raft"             # a name in the REGISTRY
# memory_bytes_max = 536870912  # of what others send, the most that is kept in memory; else a quarter of what this
                              # machine or control group has, 2 GiB at most
# keys = "keys"               # only where nodes may lie: the folder with this node's private key and keyring.toml, as
                              # `quorate keys generate` makes them; a relative one begins at the file's own folder
# app = "kvstore"             # only for tendermint: the ABCI app that the node drives, of one kind at all nodes:
                              # kvstore, or an address as in "tcp://127.0.0.1:{port}" or "unix:///run/app{node}.sock";
                              # {port} is 26658 for the first node, 10 more for each further one

[nodes.1]
peer = "10.0.0.1:7501"        # where the other nodes reach it: host:port, host an address or a name
client = "n1.example:7401"    # where clients reach it; an IPv6 address stands in brackets, "[fd00::1]:7401"
# listen_peer = "[::]:7501"   # only if the node itself listens elsewhere than others reach it, in a container, behind
# listen_client = "[::]:7401" # NAT, or at a name: "0.0.0.0" is every IPv4 address of the machine, "[::]" every address
# rpc = "127.0.0.1:26657"     # only for tendermint: where this node serves CometBFT's RPC, to all who can reach it

[raft]                        # optional: fields of the protocol's own config
heartbeat_s = 0.3

# founders = [1, 2, 3]        # in the protocol's table, only once nodes have joined: which it began with

# [ledger]                    # only where the cluster keeps a ledger: what its chain begins with, as `quorate up
# ...                         # --ledger` writes it (service/ledger/genesis_table.py)

# [pbft]
# admins = ["64 hex digits"]  # who may change which nodes vote: what `quorate keys show keys/admin.key` prints
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from quorate.kernel import NODE_ID_MAX
from quorate.ledger.genesis import Genesis
from quorate.parts.crypto.keys import Keys
from quorate.protocols import REGISTRY, ProtocolEntry
from quorate.runtime.address import is_wildcard, parse_address
from quorate.runtime.memory import MEMORY_BYTES_MIN, MemoryBudget, default_budget, memory_of_machine
from quorate.service.app_addresses import app_of
from quorate.service.ledger.genesis_table import genesis_of_table

CONFIG_BYTES_MAX = 1 << 20
NODES_MAX = 63
PUBLIC_KEY = re.compile("[0-9a-fA-F]{64}")


class ConfigError(ValueError):
    """The configuration cannot be used; the text says which field, and what to write there."""


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One node's addresses, each "host:port".

    ``peer`` and ``client`` are what others dial; ``listen_peer`` and ``listen_client`` what the node itself listens on,
    if that is something else.
    """

    peer: str
    client: str
    listen_peer: str | None = None
    listen_client: str | None = None
    rpc: str | None = None
    """Where it serves CometBFT's RPC; None: nowhere."""

    @property
    def listens_peer(self) -> str:
        """Where it listens for the other nodes."""
        return self.peer if self.listen_peer is None else self.listen_peer

    @property
    def listens_client(self) -> str:
        """Where it listens for clients."""
        return self.client if self.listen_client is None else self.listen_client


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One node of a cluster."""

    cluster: str
    node: int
    data: Path
    nodes: dict[int, Member]
    protocol: str = "raft"
    options: Any = None
    """The protocol's own config, checked; None for its defaults."""
    keys: Path | None = None
    """The folder of the keys, for a protocol whose nodes sign."""
    app: str = ""
    """The ABCI app that the node drives (``app_addresses.py``); empty: none, it serves clients by itself."""
    ledger: Genesis | None = None
    """What the chain begins with that the cluster keeps in place of keys and values; None: it keeps none."""
    witness: bool = False
    """Whether it keeps no state, and so needs no store: as it was invited (``quorate members add --witness``)."""
    memory_bytes_max: int | None = None
    """What the node may keep in memory of what others send; None: as the machine has it."""

    @property
    def memory(self) -> MemoryBudget:
        """What there is to share out."""
        return default_budget() if self.memory_bytes_max is None else MemoryBudget(self.memory_bytes_max)

    @property
    def entry(self) -> ProtocolEntry:
        """The protocol."""
        return REGISTRY[self.protocol]

    @property
    def have_joined(self) -> bool:
        """Whether the file says that others have joined those with which the cluster began."""
        return bool(self._named_founders)

    @property
    def founders(self) -> tuple[int, ...]:
        """The nodes that the cluster began with."""
        return tuple(sorted(self._named_founders or self.nodes))

    @property
    def _named_founders(self) -> tuple[int, ...]:
        if self.options is None or not self.entry.traits.members.can_change:
            return ()
        founders: tuple[int, ...] = self.options.founders
        return founders

    @property
    def admins(self) -> tuple[bytes, ...]:
        """The public keys of those whose changes of members nodes take, where they must be signed."""
        if self.options is None or not self.entry.traits.members.by_admin:
            return ()
        admins: tuple[bytes, ...] = self.options.admins
        return admins

    def load_keys(self) -> Keys:
        """This node's keys. Raises ConfigError where a file is not there, or the keys are not those of this cluster."""
        from quorate.runtime import key_files as files  # most clusters need none

        assert self.keys is not None  # a protocol that needs them is refused without
        try:
            signer = files.read_private_key(self.keys / files.private_key_name(self.node))
            keyring = files.read_keyring(self.keys / files.KEYRING_NAME)
        except files.KeyFileError as error:
            raise ConfigError(f"keys: {error}. {_generate(self)}") from None
        if signer.node != self.node:
            whose = "an administrator" if signer.node is None else f"node {signer.node}"
            raise ConfigError(f"keys: the private key is that of {whose}, not of node {self.node}")
        found, wanted = set(keyring.nodes), {*self.nodes, *self.founders}
        if found != wanted and not (self.have_joined and found > wanted):  # keys of those that left do no harm
            has = f"{files.KEYRING_NAME} has nodes {_list(sorted(found))}"
            raise ConfigError(f"keys: {has}, the cluster has {_list(sorted(wanted))}")
        try:
            return Keys(signer, keyring).within(self.cluster)
        except ValueError as error:
            raise ConfigError(f"keys: {error}: bring the same {files.KEYRING_NAME} to every node") from None

    def peer_addresses(self) -> dict[int, tuple[str, int]]:
        """Host and port of every node's peer port."""
        return {node: parse_address(member.peer) for node, member in self.nodes.items()}

    def client_address(self) -> tuple[str, int]:
        """Host and port where clients reach this node."""
        return parse_address(self.nodes[self.node].client)

    def listen_peer(self) -> tuple[str, int]:
        """Host and port where this node listens for the other nodes."""
        return parse_address(self.nodes[self.node].listens_peer)

    def listen_client(self) -> tuple[str, int]:
        """Host and port where this node listens for clients."""
        return parse_address(self.nodes[self.node].listens_client)

    def listen_rpc(self) -> tuple[str, int] | None:
        """Host and port of its RPC, if it serves that."""
        rpc = self.nodes[self.node].rpc
        return None if rpc is None else parse_address(rpc)


def load(path: Path, node: int | None = None) -> NodeConfig:
    """Read and check a file; ``node`` overrides the one it names. Raises ConfigError, OSError."""
    with path.open("rb") as file:
        data = file.read(CONFIG_BYTES_MAX + 1)
    if len(data) > CONFIG_BYTES_MAX:
        raise ConfigError(f"{path}: larger than {CONFIG_BYTES_MAX} bytes; this is no configuration")
    try:
        raw = tomllib.loads(data.decode())
        if node is not None:
            raw["node"] = node
        config = from_mapping(raw)
        keys = None if config.keys is None else path.parent / config.keys
        return msgspec.structs.replace(config, data=path.parent / config.data, keys=keys)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from error
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply; this is no configuration") from None


def from_mapping(raw: dict[str, Any]) -> NodeConfig:
    """Check a configuration that was read. Raises ConfigError."""
    rest = dict(raw)
    protocol = rest.get("protocol", "raft")
    entry = REGISTRY.get(protocol) if isinstance(protocol, str) else None
    if entry is None:
        raise _unknown(protocol)
    options = rest.pop(entry.name, None)
    ledger = rest.pop("ledger", None)
    fields = ("cluster", "node", "data", "protocol", "keys", "app", "witness", "memory_bytes_max", "nodes")
    if unknown := sorted(set(rest).difference(fields)):
        there_are = ", ".join(fields)
        raise ConfigError(f"{unknown[0]}: not a field; there are {there_are}, ledger and {entry.name}")
    try:
        config = msgspec.convert(rest, NodeConfig, strict=False, dec_hook=_path)
        data = Path(str(config.data).replace("{node}", str(config.node)))
        config = msgspec.structs.replace(config, data=data, ledger=_ledger(config.cluster, ledger))
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(str(error)) from error
    check_config(config)
    return config if options is None else msgspec.structs.replace(config, options=_options(entry, options))


def _ledger(cluster: str, table: Any) -> Genesis | None:
    try:
        return None if table is None else genesis_of_table(cluster, table)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"ledger: {str(error).replace('$.', 'ledger.')}") from error


def _options(entry: ProtocolEntry, options: Any) -> Any:
    """The table of the protocol. A value of the wrong type is named by its path, a wrong one by the config itself."""
    try:
        return msgspec.convert(_with_admins(entry, options), entry.config)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{entry.name}: {str(error).replace('$.', entry.name + '.')}") from error


def _with_admins(entry: ProtocolEntry, options: Any) -> Any:
    """TOML has no bytes: public keys are in hex, as `quorate keys show` prints them."""
    if not isinstance(options, dict) or not isinstance(admins := options.get("admins"), list):
        return options
    for place, text in enumerate(admins):
        if not isinstance(text, str) or not PUBLIC_KEY.fullmatch(text):
            what = "no public key: write the 64 hex digits that `quorate keys show keys/admin.key` prints"
            raise ConfigError(f"{entry.name}.admins[{place}]: {text!r} is {what}")
    return {**options, "admins": [bytes.fromhex(text) for text in admins]}


def _path(kind: type, value: Any) -> Any:
    """TOML has no paths."""
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise ValueError(f"{value!r} is no {kind.__name__}: write it in quotes")


def _unknown(protocol: Any) -> ConfigError:
    return ConfigError(f"protocol: {protocol!r} is not known; choose from {', '.join(REGISTRY)}")


def _generate(config: NodeConfig) -> str:
    return f"`quorate keys generate --nodes {max(config.nodes)} --out keys` makes keys"


def _list(nodes: Iterable[int]) -> str:
    return ", ".join(map(str, nodes))


def check_config(config: NodeConfig) -> None:
    """Raises ConfigError for a configuration that cannot be used, also one that was not read from a file."""
    if config.protocol not in REGISTRY:
        raise _unknown(config.protocol)
    if config.options is not None and not isinstance(config.options, config.entry.config):
        wanted = config.entry.config.__name__
        raise ConfigError(f"options: {config.protocol} has a {wanted}, not a {type(config.options).__name__}")
    if not 0 < len(config.cluster.encode(errors="replace")) <= 128:
        raise ConfigError("cluster: a name of 1 to 128 bytes")
    if not config.cluster.isprintable():
        raise ConfigError(f"cluster: {config.cluster!r} has control characters; leave them out")
    if not str(config.data).isprintable():
        raise ConfigError(f"data: {str(config.data)!r} is not a folder's name")
    if not 0 < len(config.nodes) <= NODES_MAX:
        raise ConfigError(f"nodes: {len(config.nodes)} of them; there must be 1 to {NODES_MAX}")
    for node in config.nodes:
        if not 0 <= node <= NODE_ID_MAX:
            raise ConfigError(f"nodes.{node}: ids go from 0 to {NODE_ID_MAX}")
    if config.node not in config.nodes:
        raise ConfigError(f"node: {config.node} is not one of [nodes], which has {_list(config.nodes)}")
    if config.memory_bytes_max is not None:
        _check_memory(config.memory_bytes_max)
    _check_addresses(config.nodes)
    if config.entry.traits.has_keys and config.keys is None:
        text = f'keys: the nodes of {config.protocol} sign, so write keys = "FOLDER"'
        raise ConfigError(f"{text}. {_generate(config)}")
    if config.app:
        if config.ledger is not None:
            raise ConfigError("ledger: nodes that drive an app keep what the app keeps; leave out one of the two")
        _check_app(config)
    elif config.entry.app_core is None:
        _check_no_rpc(config)
    if config.witness and not config.entry.traits.members.may_be_witnesses:
        raise ConfigError(f"witness: {config.protocol} has no witnesses; leave it out")
    if config.keys is not None and not config.entry.traits.has_keys:
        raise ConfigError(f"keys: the nodes of {config.protocol} do not sign; leave keys out")


def _check_no_rpc(config: NodeConfig) -> None:
    for node, member in config.nodes.items():
        if member.rpc is not None:
            why = f"CometBFT's RPC is there for blocks of {REGISTRY.with_apps()}, and this is {config.protocol}"
            raise ConfigError(f"nodes.{node}.rpc: {why}; leave it out")


def _check_app(config: NodeConfig) -> None:
    if config.entry.app_core is None:
        raise ConfigError(f"app: {config.protocol} drives no apps; leave app out, or choose {REGISTRY.with_apps()}")
    try:
        app_of(config.app, config.node, config.nodes)
    except ValueError as error:
        raise ConfigError(f"app: {error}") from None


def _check_memory(asked: int) -> None:
    most = memory_of_machine()
    if not asked >= MEMORY_BYTES_MIN:
        raise ConfigError(f"memory_bytes_max: {asked} bytes are too few; it is at least {MEMORY_BYTES_MIN} (256 MiB)")
    if not asked <= most:
        raise ConfigError(f"memory_bytes_max: {asked} bytes are more than this machine has; it is at most {most}")


def _check_addresses(nodes: dict[int, Member]) -> None:
    seen: dict[tuple[str, int], str] = {}
    for node, member in nodes.items():
        for field, text in (("peer", member.peer), ("client", member.client)):
            where = f"nodes.{node}.{field}"
            address = _address(where, text)
            if is_wildcard(address[0]):
                cure = f"write where others reach the node, and this one in listen_{field}"
                raise ConfigError(f"{where}: nobody can dial {text}: {cure}")
            if seen.setdefault(address, where) != where:
                raise ConfigError(f"{where}: {text} is the address of {seen[address]} already")
        peer = _address(f"nodes.{node}.listen_peer", member.listens_peer)
        client = _address(f"nodes.{node}.listen_client", member.listens_client)
        if peer[1] == client[1] and (peer[0] == client[0] or is_wildcard(peer[0]) or is_wildcard(client[0])):
            text = "it would listen for nodes and for clients on one port; choose another for one of them"
            raise ConfigError(f"nodes.{node}: {text}")
    for node, member in nodes.items():
        if member.rpc is not None:
            _check_rpc(node, member, member.rpc, seen)


def _check_rpc(node: int, member: Member, rpc: str, seen: dict[tuple[str, int], str]) -> None:
    """Nodes on several machines may all have the same one, such as 127.0.0.1:26657."""
    where = f"nodes.{node}.rpc"
    host, port = address = _address(where, rpc)
    if address in seen:
        raise ConfigError(f"{where}: {rpc} is the address of {seen[address]} already")
    for its_host, its_port in map(parse_address, (member.listens_peer, member.listens_client)):
        if port == its_port and (its_host == host or is_wildcard(its_host) or is_wildcard(host)):
            raise ConfigError(f"{where}: the node listens on port {port} already; choose another")


def _address(where: str, text: str) -> tuple[str, int]:
    try:
        return parse_address(text)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
