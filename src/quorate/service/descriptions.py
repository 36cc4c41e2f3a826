"""Descriptions: what a node says of its cluster to whoever wants to join it, or wants to see who is in it.

How it works. It is made of the configuration that all nodes share, and of what the log has decided since: who came and
went, who is invited, and where nodes are that moved. So nodes that know the same say the same, byte for byte, and
whoever asks several can compare (``client/membership.py``).
"""

from __future__ import annotations

from typing import Any

import msgspec

from quorate.parts.crypto.keys import Keyring
from quorate.parts.log.configuration import InForce, Nodes
from quorate.service.config import NodeConfig
from quorate.service.requests import Description, Known


def describe_cluster(request: int, config: NodeConfig, in_force: InForce, keyring: Keyring | None) -> Description:
    """The cluster as this node knows it. ``keyring``: the nodes' keys, where they have some."""
    nodes = in_force.nodes
    return Description(
        id=request,
        cluster=config.cluster,
        protocol=config.protocol,
        options=msgspec.json.encode(shared_options(config)),
        founders=config.founders,
        there=known_nodes(config, nodes),
        keys=() if keyring is None else _keys(config, nodes, keyring),
        voters=in_force.voters,
        nodes=nodes,
    )


def shared_options(config: NodeConfig) -> Any:
    """The protocol's config as all nodes have it; a node that joined says who the founders are, and so do they."""
    options = config.entry.config() if config.options is None else config.options
    if config.entry.traits.members.can_change:
        return msgspec.structs.replace(options, founders=config.founders)
    return options


def known_nodes(config: NodeConfig, nodes: Nodes) -> tuple[Known, ...]:
    """All that there are, each where it said last that it is, or where its newcomer or the configuration has it."""
    found: dict[int, Known] = {}
    for node, member in config.nodes.items():
        found[node] = Known(node, member.peer, member.client)
    for newcomer in nodes.joined:
        client = found[newcomer.node].client if newcomer.node in found else ""
        found[newcomer.node] = Known(newcomer.node, newcomer.address, client)
    for place in nodes.places:
        found[place.node] = Known(place.node, place.peer, place.client, place.incarnation)
    here = nodes.numbers(config.founders)
    return tuple(found.get(node, Known(node, "", "")) for node in sorted(here))


def _keys(config: NodeConfig, nodes: Nodes, keyring: Keyring) -> tuple[tuple[int, bytes], ...]:
    ever = {*config.founders, *(newcomer.node for newcomer in nodes.joined)}
    return tuple((node, keyring.public(node)) for node in sorted(ever) if node in keyring.nodes)
