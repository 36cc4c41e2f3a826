"""Joining: how a node that no file names gets into a running cluster, with a token and the addresses of some nodes.

How it works. It makes its data folder first, and where nodes have keys its own key, so that it is one and the same node
however often this is interrupted: the folder's incarnation and the key go into the log with its number. Then

1. it asks the endpoints which cluster this is. Where nodes may lie, as many must say the same, byte for byte, as the
   token says that may lie, and one more; the administrator who signed the token must be one of that cluster's;
2. it has itself introduced, on the strength of the token, in the epoch that they described: as a learner. A token is
   used once, because a number is; whoever comes second with it is told so;
3. when they say that it is in the cluster, it writes its configuration, ``node.toml`` in its data folder, and is
   started as any node that has a folder: the core catches up by a snapshot and the log.

Whether it votes is for an administrator to say, later (``Administration.promote``).

Nothing that an endpoint says is believed before it is checked: an answer has at most 1 MiB and two seconds, and all of
it is parsed into a configuration as strictly as a file would be.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from quorate.parts.crypto.keys import Signer
from quorate.parts.log.configuration import Newcomer, NodePlace
from quorate.protocols import REGISTRY
from quorate.runtime.beginning import begin_folder
from quorate.runtime.files import Identity, make_directory, replace_file
from quorate.runtime.threads import in_daemon
from quorate.service.client.aio import AsyncClient
from quorate.service.client.errors import NoQuorum, QuorateError, Refused
from quorate.service.client.membership import POLL_S, believed_cluster, why_not_believed
from quorate.service.config import ConfigError, Member, NodeConfig, check_config, load
from quorate.service.config_text import toml_of
from quorate.service.requests import Description
from quorate.service.tokens import Token

log = logging.getLogger("quorate.joining")

CONFIG_NAME: Final = "node.toml"
KEYS_FOLDER: Final = "keys"
ASK_S_MAX: Final = 10.0
"""How long the answer to one request may take, before it is looked whether it took effect all the same."""
REFUSED_S_MAX: Final = 5.0
"""For so long a refusal is taken for that of nodes which have not heard of the invitation yet."""
WHERE_IT_JOINED: Final = (
    "This node's configuration, written when it joined its cluster. Others dial it at the addresses of its own table.\n"
    "If it moves, change them there and tell the others: quorate members move."
)


class Plan(msgspec.Struct, frozen=True):
    """What is asked for: ``member`` is where the node will listen, and where others dial it."""

    endpoints: str
    token: Token
    member: Member
    data: Path
    timeout_s: float = 30.0


async def join(plan: Plan) -> Path:
    """Have a node join; the path of its configuration. Called again it goes on where it was, or changes nothing.

    Raises Refused where the cluster does not take it, or the endpoints describe none that could be joined; NoQuorum,
    Unreachable where it took too long: the same again may help; ValueError for endpoints that are none, or too few;
    StorageError, KeyFileError, OSError for what is in the folder.
    """
    token, data = plan.token, plan.data
    path = data / CONFIG_NAME
    if path.exists():
        _check_joined(path, plan)
        return path
    client = AsyncClient(
        plan.endpoints,
        timeout_s=plan.timeout_s,
        faults=token.faults if token.is_signed else None,
        key=token.signer() if token.is_signed else None,
    )
    incarnation = await in_daemon(partial(begin_folder, data, Identity(token.cluster, token.node)), "quorate-folder")
    key = _own_key(data / KEYS_FOLDER, token.node) if token.is_signed else None
    async with client:
        config = await _Joining(plan, client, incarnation, b"" if key is None else key.public).run()
    replace_file(
        path, toml_of(config, WHERE_IT_JOINED, Path(), Path(KEYS_FOLDER) if token.is_signed else None).encode()
    )
    return path


def _check_joined(path: Path, plan: Plan) -> None:
    """What joined before, and is now to start again. Raises Refused."""
    token = plan.token
    try:
        config = load(path)
    except ConfigError as error:
        raise Refused(str(error)) from None
    if (config.cluster, config.node) != (token.cluster, token.node):
        raise Refused(
            f"{plan.data} belongs to n{config.node} of cluster {config.cluster!r}, and the token is for n{token.node} "
            f"of {token.cluster!r}: give each node its own folder"
        )
    there = config.nodes[config.node]
    if (there.peer, there.client) != (plan.member.peer, plan.member.client):
        raise Refused(
            f"n{config.node} has joined, as {there.peer} for nodes and {there.client} for clients. If it has moved, "
            f"change that in {path} and tell the others: quorate members move n{config.node}"
        )


def _own_key(folder: Path, node: int) -> Signer:
    """Of this node; it is made once. Raises KeyFileError, OSError."""
    from quorate.runtime import key_files
    from quorate.runtime.keys import generate_secret

    make_directory(folder.absolute())
    path = folder / key_files.private_key_name(node)
    if not path.exists():
        key_files.write_private_key(path, node, generate_secret())
    return key_files.read_private_key(path)


class _Joining:
    """One attempt, until it is over or takes too long."""

    def __init__(self, plan: Plan, client: AsyncClient, incarnation: bytes, key: bytes) -> None:
        self._plan = plan
        self._token = plan.token
        self._client = client
        member = plan.member
        self._newcomer = Newcomer(self._token.node, member.peer, key)
        self._place = NodePlace(self._token.node, member.peer, member.client, incarnation)

    async def run(self) -> NodeConfig:
        """The configuration to start with, once the node is in the cluster."""
        token, deadline = self._token, time.monotonic() + self._plan.timeout_s
        refused_until = 0.0
        while True:
            cluster = await self._described(deadline)
            config = self._config_of(cluster)
            if self._is_in(cluster):
                self._keep_keys(cluster, config)
                return config
            self._check_invitation(cluster)
            log.info("n%d asks to join cluster %r as a learner", token.node, token.cluster)
            newcomer = msgspec.structs.replace(self._newcomer, witness=config.witness)
            try:
                await self._client.introduce(
                    *(newcomer, self._place, token.secret, cluster), min(deadline, time.monotonic() + ASK_S_MAX)
                )
            except Refused as error:
                # A node that has not heard of the invitation yet may say so: what most of them know is known soon.
                refused_until = refused_until or time.monotonic() + REFUSED_S_MAX
                if time.monotonic() > min(refused_until, deadline):
                    raise Refused(f"n{token.node} cannot join: {error}") from None
            except QuorateError as error:
                if time.monotonic() > deadline:
                    raise NoQuorum(f"n{token.node} has not joined within {self._plan.timeout_s:g} s: {error}") from None
            await asyncio.sleep(POLL_S)

    async def _described(self, deadline: float) -> Description:
        """The cluster, as so many endpoints describe it that one of them does not lie."""
        while True:
            found = await self._client.descriptions()
            if (cluster := believed_cluster(found, self._token.faults)) is not None:
                return cluster
            if time.monotonic() > deadline:
                raise NoQuorum(f"{why_not_believed(found, self._token.faults)}. Are the endpoints right?")
            await asyncio.sleep(POLL_S)

    def _config_of(self, cluster: Description) -> NodeConfig:
        """Raises Refused where this is not the token's cluster, or none that could be joined."""
        token = self._token
        if cluster.cluster != token.cluster:
            raise Refused(
                f"the token is for cluster {token.cluster!r}, and these are nodes of {cluster.cluster!r}: give the "
                "endpoints of the one, or a token of the other"
            )
        entry = REGISTRY.get(cluster.protocol)
        if entry is None:
            raise Refused(f"the cluster speaks {cluster.protocol!r}, which this release does not know: install theirs")
        if not entry.traits.members.can_change:
            raise Refused(f"{entry.name} has no membership change yet: no node can join")
        if entry.traits.members.by_admin != token.is_signed:
            must = "must be signed by an administrator" if entry.traits.members.by_admin else "is not signed by anybody"
            raise Refused(f"a token for a cluster of {entry.name} {must}, and this one is otherwise: get another")
        try:
            options: Any = msgspec.json.decode(cluster.options, type=entry.config)
            if token.is_signed and token.admin not in options.admins:
                raise Refused(
                    f"the administrator {token.admin.hex()}, who signed the token, is none of this cluster's: have one "
                    "of them run `quorate members add`"
                )
            if not cluster.nodes.may_be(cluster.founders):
                raise ValueError("nodes that joined twice, or that were there before")
            nodes = {known.node: Member(known.peer, known.client) for known in cluster.there}
            config = NodeConfig(
                cluster=cluster.cluster,
                node=token.node,
                data=self._plan.data,
                nodes={**nodes, token.node: self._plan.member},
                protocol=cluster.protocol,
                options=msgspec.structs.replace(options, founders=cluster.founders),
                keys=self._plan.data / KEYS_FOLDER if token.is_signed else None,
                witness=cluster.nodes.is_witness(token.node),
            )
            check_config(config)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise Refused(f"n{token.node} cannot start with what the endpoints say of the cluster: {error}") from None
        return config

    def _is_in(self, cluster: Description) -> bool:
        """Whether the cluster has this node. Raises Refused where it has another one under its number."""
        number = self._token.node
        known = next((known for known in cluster.there if known.node == number), None)
        if known is None:
            return False
        if known.incarnation != self._place.incarnation or self._key_in(cluster) not in (None, self._newcomer.key):
            raise Refused(
                f"the token was used already: n{number} has joined from {known.peer}, with another data folder. Each "
                "token works once: have `quorate members add` print one for another name, and if that node's disk is "
                "lost, let the new one take its place: quorate members replace"
            )
        if (known.peer, known.client) != (self._place.peer, self._place.client):
            raise Refused(
                f"n{number} has joined as {known.peer} for nodes and {known.client} for clients: start it with these, "
                f"or tell the others where it is: quorate members move n{number}"
            )
        return True

    def _key_in(self, cluster: Description) -> bytes | None:
        return dict(cluster.keys).get(self._token.node)

    def _check_invitation(self, cluster: Description) -> None:
        number = self._token.node
        if number in cluster.nodes.left:
            raise Refused(
                f"n{number} has left the cluster, or its invitation was withdrawn, and a number is used once: have "
                "`quorate members add` print a token for another name"
            )
        lock = cluster.nodes.lock(number)
        if lock is None:
            raise Refused(f"n{number} is not invited: have `quorate members add n{number}` print a token")
        if lock != self._token.lock:
            raise Refused(f"a newer token was printed for n{number}, and this one is void: use that one")

    def _keep_keys(self, cluster: Description, config: NodeConfig) -> None:
        """Write the keyring, and see that the keys are those of this cluster."""
        if config.keys is None:
            return
        from quorate.runtime import key_files

        path = config.keys / key_files.KEYRING_NAME
        path.unlink(missing_ok=True)  # of an attempt that was interrupted
        key_files.write_keyring(path, dict(cluster.keys))
        try:
            config.load_keys()
        except ConfigError as error:
            raise Refused(str(error)) from None
