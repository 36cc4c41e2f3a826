"""Administration: the part of the asynchronous client that asks who is in the cluster and who leads, and changes it.

It is a program above the client: it asks every node on a link of its own, until enough of them say the same
(``membership.py``), and has changes decided as the client has commands. A change that would leave no quorum of nodes
that answer is refused here, before it is asked for, unless it is forced.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from quorate.parts.crypto.keys import Signer
from quorate.parts.log import configuration
from quorate.parts.log.configuration import Invitation, Newcomer, NodePlace, Voters
from quorate.service.client.endpoints import Endpoints
from quorate.service.client.errors import (
    NoQuorum,
    NotTransferred,
    OutcomeUnknown,
    QuorateError,
    Refused,
    Unreachable,
)
from quorate.service.client.leadership import LeaderFound, leading
from quorate.service.client.link import DIAL_TIMEOUT_S, ask_node
from quorate.service.client.membership import (
    POLL_S,
    Descriptions,
    Statuses,
    believed,
    believed_cluster,
    furthest,
    here,
    is_over,
    missing,
    settled,
    text_of,
    why_loses_quorum,
    why_not_believed,
    why_not_caught_up,
)
from quorate.service.requests import (
    DECODE_ERRORS,
    AskCluster,
    AskStatus,
    Code,
    Description,
    Failure,
    Known,
    Result,
    Status,
    TransferLeadership,
    decode_description,
    decode_response,
    encode,
)
from quorate.service.tokens import Token, new_token


class Look(msgspec.Struct, frozen=True):
    """The cluster at one moment: what it is, and what each of its nodes says of itself, or why it says nothing."""

    cluster: Description
    nodes: tuple[tuple[Known, Status | QuorateError], ...]

    @property
    def live(self) -> set[int]:
        """The nodes that answer and can write."""
        return {known.node for known, status in self.nodes if isinstance(status, Status) and status.stalled is None}


class Administration(ABC):
    """What a client that can have commands decided makes of it."""

    endpoints: Endpoints
    timeout_s: float
    cluster: str

    @property
    @abstractmethod
    def _liars(self) -> int:
        """How many of the answers may be lies."""

    @property
    @abstractmethod
    def is_byzantine(self) -> bool:
        """Whether nodes may lie."""

    @property
    @abstractmethod
    def _liars_of_cluster(self) -> int:
        """How many nodes of the cluster may lie, by its own account."""

    @property
    @abstractmethod
    def _administrator(self) -> Signer | None:
        """Who signs changes."""

    @abstractmethod
    async def _has_mode_by(self, deadline: float) -> None:
        """Wait until it is known whether nodes may lie. Raises Unreachable, Refused."""

    @abstractmethod
    async def _reconfigure(self, change: bytes, deadline: float) -> None:
        """Have a change of the members decided. Raises as ``set_members``."""

    async def learn_whether_nodes_may_lie(self) -> bool:
        """Ask, unless that is known. Raises Unreachable, Refused."""
        await self._has_mode_by(time.monotonic() + self.timeout_s)
        return self.is_byzantine

    async def members(self) -> Voters:
        """Who votes, and who will where a change is under way: the newest that enough nodes say.

        Raises Unreachable, NoQuorum, Refused.
        """
        return (await self._voters(time.monotonic() + self.timeout_s))[0]

    async def look(self) -> Look:
        """Which nodes there are and where, by enough endpoints, and each one's own word.

        Raises Unreachable, NoQuorum, Refused.
        """
        return await self._look(time.monotonic() + self.timeout_s)

    async def set_members(self, members: Sequence[int], *, force: bool = False) -> Voters:
        """Have these nodes vote and no others; returns when they do. To ask for what is so already changes nothing.

        Where nodes may lie, ``key`` of this client is an administrator's. Raises ValueError for no members or too many;
        Refused where the nodes do not take that change, where too few of those members answer (unless ``force``), or
        others changed the members meanwhile; Unreachable, NoQuorum; OutcomeUnknown where it may still take effect.
        """
        wanted = tuple(sorted(set(members)))
        configuration.encode_change(wanted)
        deadline = time.monotonic() + self.timeout_s
        before, _ = await self._voters(deadline)
        if before.members == wanted and not before.next_members:
            return before
        await self._check_live(wanted, force, deadline)
        return await self._change(wanted, before, deadline)

    async def invite(self, node: int, *, witness: bool = False) -> Token:
        """Let a node join under this number; the token with which it does, once (``service/joining.py``).

        ``witness``: it will vote and keep no state, where the protocol has that (``protocols/raft/witnesses.py``).

        A second invitation of the same number makes the first one's token void. Raises as ``set_members``.
        """
        deadline = time.monotonic() + self.timeout_s
        before, _ = await self._voters(deadline)
        cluster = await self._described(deadline)
        signer = self._administrator if self.is_byzantine else None
        token = new_token(cluster.cluster, node, self._liars_of_cluster, signer)
        await self._change(settled(before), before, deadline, invitations=(Invitation(node, token.lock, witness),))
        return token

    async def promote(self, nodes: Sequence[int], *, force: bool = False) -> Voters:
        """Have learners vote, once they have caught up; returns when they do.

        Raises as ``set_members``, and OutcomeUnknown where one has not caught up in time: it follows, and does not
        vote.
        """
        deadline = time.monotonic() + self.timeout_s
        look = await self._look(deadline)
        await self._until_all_caught_up(nodes, look, deadline)
        before, _ = await self._voters(deadline)
        return await self.set_members([*settled(before), *nodes], force=force)

    async def demote(self, nodes: Sequence[int], *, force: bool = False) -> Voters:
        """Have nodes follow without a vote. Raises as ``set_members``."""
        before, _ = await self._voters(time.monotonic() + self.timeout_s)
        return await self.set_members([node for node in settled(before) if node not in nodes], force=force)

    async def remove_nodes(self, nodes: Sequence[int], *, force: bool = False) -> Voters:
        """Have nodes leave the cluster for good; returns when it goes on without them, and they may be switched off.

        Their numbers are not used again. An invitation under such a number is withdrawn. Raises as ``set_members``.
        """
        deadline = time.monotonic() + self.timeout_s
        before, statuses = await self._voters(deadline)
        cluster = await self._described(deadline)
        there = here(statuses, before, self._liars) | {invited.node for invited in cluster.nodes.invited}
        leavers = tuple(sorted(set(nodes) & there))
        rest = tuple(node for node in settled(before) if node not in nodes)
        if not leavers and rest == before.members:
            return before
        if rest != before.members:
            await self._check_live(rest, force, deadline)
        return await self._change(rest, before, deadline, leavers=leavers)

    async def replace_node(self, old: int, new: int, *, force: bool = False) -> Voters:
        """Have a learner vote in place of another node, which leaves for good, in one step.

        Raises as ``promote``.
        """
        deadline = time.monotonic() + self.timeout_s
        look = await self._look(deadline)
        if old in look.cluster.nodes.left:
            return await self.promote([new], force=force)
        await self._until_all_caught_up([new], look, deadline)
        before, _ = await self._voters(deadline)
        if old not in settled(before):
            raise Refused(f"n{old} does not vote: remove it, and promote n{new}")
        wanted = tuple(sorted({*settled(before), new} - {old}))
        await self._check_live(wanted, force, deadline)
        return await self._change(wanted, before, deadline, leavers=(old,))

    async def move_node(self, node: int, peer: str, client: str) -> Voters:
        """Tell the cluster where a node is now: others dial it at ``peer``, clients at ``client``.

        Raises as ``set_members``.
        """
        deadline = time.monotonic() + self.timeout_s
        before, _ = await self._voters(deadline)
        cluster = await self._described(deadline)
        if any((known.node, known.peer, known.client) == (node, peer, client) for known in cluster.there):
            return before
        return await self._change(settled(before), before, deadline, places=(NodePlace(node, peer, client),))

    async def introduce(
        self, newcomer: Newcomer, place: NodePlace, secret: bytes, cluster: Description, deadline: float
    ) -> None:
        """Have a node that was invited join the cluster as it was described; ``secret`` where nodes do not sign.

        Raises Refused, Unreachable, NoQuorum, OutcomeUnknown.
        """
        assert cluster.voters is not None  # it is believed
        await self._has_mode_by(deadline)
        members, epoch = settled(cluster.voters), cluster.voters.epoch
        opens = b"" if self.is_byzantine else secret
        change = configuration.encode_change(members, epoch, [newcomer], places=[place], secret=opens)
        await self._reconfigure(change, deadline)

    async def _change(
        self,
        wanted: tuple[int, ...],
        before: Voters,
        deadline: float,
        *,
        leavers: Sequence[int] = (),
        invitations: Sequence[Invitation] = (),
        places: Sequence[NodePlace] = (),
    ) -> Voters:
        change = configuration.encode_change(wanted, before.epoch, (), leavers, invitations, places)
        refused: Refused | None = None
        try:
            await self._reconfigure(change, deadline)
        except Refused as error:
            refused = error  # unless an earlier sending was taken in, and this is what became of a later one
        since = before.epoch + 1 if leavers or invitations or places else 0
        return await self._until_members(wanted, before, refused, deadline, since)

    async def _check_live(self, wanted: tuple[int, ...], force: bool, deadline: float) -> None:
        """Raises Refused where no quorum of these members answers."""
        if not force and (why := why_loses_quorum(wanted, (await self._look(deadline)).live, self.is_byzantine)):
            raise Refused(why)

    async def _until_all_caught_up(self, nodes: Sequence[int], look: Look, deadline: float) -> None:
        clients = {known.node: known.client for known in look.cluster.there}
        for node in nodes:
            if look.cluster.nodes.lock(node) is not None:
                raise Refused(f"n{node} has not joined yet: start it with its token (quorate node --join)")
            if node not in clients:
                raise Refused(f"there is no node n{node}: `quorate members add n{node}` prints what it joins with")
            if not clients[node]:
                raise Refused(
                    f"nobody said where clients reach n{node}: `quorate members move n{node}` tells the others"
                )
            assert look.cluster.voters is not None  # it is believed
            if node not in look.cluster.voters.members:
                await self._until_caught_up(node, clients[node], deadline)

    async def _until_caught_up(self, node: int, client: str, deadline: float) -> None:
        """Until it knows what the others knew when this began."""
        voters, statuses = await self._voters(deadline)
        index = furthest(statuses, voters, self._liars)
        while (why := why_not_caught_up(await self._status_of(client), node, voters, index)) is not None:
            if time.monotonic() >= deadline:
                text = f"node {node} is in the cluster and follows, and does not vote"
                raise OutcomeUnknown(f"{text}: not caught up within {self.timeout_s:g} s ({why}); ask again")
            await asyncio.sleep(POLL_S)
            with suppress(QuorateError):  # that time is up is said above
                voters, _ = await self._voters(deadline)

    async def _until_members(
        self, wanted: tuple[int, ...], before: Voters, refused: Refused | None, deadline: float, since: int = 0
    ) -> Voters:
        """Until they are the members; in an epoch from ``since`` on, where they may be the same as before."""
        while True:
            try:
                now, statuses = await self._voters(deadline)
            except QuorateError as error:
                raise OutcomeUnknown(f"the change may be decided, and {error}") from None
            is_taken = now.epoch >= since or bool(now.next_members)
            if wanted not in (now.members, now.next_members) or not is_taken:
                if refused is not None:
                    raise refused
                if now.epoch != before.epoch:
                    raise Refused(f"others have changed the members meanwhile, to {text_of(now.members)}: look again")
            is_byzantine = self.is_byzantine
            if now.members == wanted and now.epoch >= since and is_over(statuses, wanted, is_byzantine, since):
                return now
            if time.monotonic() >= deadline:
                why = missing(statuses, wanted, is_byzantine, since)
                raise OutcomeUnknown(f"not in effect within {self.timeout_s:g} s, but it may be decided: {why}")
            await asyncio.sleep(POLL_S)

    async def _voters(self, deadline: float) -> tuple[Voters, Statuses]:
        """Who votes, and what each node said."""
        await self._has_mode_by(deadline)
        faults = self._liars
        while True:
            statuses = await self.statuses()
            if (voters := believed(statuses, faults)) is not None:
                return voters, statuses
            if time.monotonic() >= deadline:
                reached = sum(isinstance(status, Status) for _, status in statuses)
                raise NoQuorum(f"{reached} nodes answered, and no {faults + 1} say the same of who votes")
            await asyncio.sleep(POLL_S)

    # --- who leads ---

    async def leader(self) -> LeaderFound:
        """Who leads, by what nodes say. Raises Unreachable, NoQuorum, Refused."""
        deadline = time.monotonic() + self.timeout_s
        await self._has_mode_by(deadline)
        return await self._leader(deadline)

    async def transfer_leadership(self, to: int | None = None) -> int:
        """Have another node lead, ``to`` or whichever is ready; which one does then. To name the one that leads already
        changes nothing.

        Raises Refused where the protocol has no such thing, or the node does not vote, does not answer, or is behind;
        NotTransferred where the old leader leads on; OutcomeUnknown, Unreachable, NoQuorum.
        """
        deadline = time.monotonic() + self.timeout_s
        await self._has_mode_by(deadline)
        while True:
            found = await self._leader(deadline)
            if found.address is None:
                raise Unreachable(f"node {found.node} leads, and is at none of these endpoints: name its own, too")
            asked = encode(TransferLeadership(0, to))
            try:
                patience_s = max(POLL_S, deadline - time.monotonic())
                answer = decode_response(await ask_node(found.address, asked, patience_s, self.cluster))
            except Unreachable as error:
                raise OutcomeUnknown(f"{error}; another node may lead by now") from None
            except DECODE_ERRORS as error:
                raise Refused(f"{found.address} sent what is no answer: {error}") from None
            if isinstance(answer, Result) and answer.data.isdigit():
                return int(answer.data)
            if not isinstance(answer, Failure):
                raise Refused(f"{found.address} answered {type(answer).__name__}")
            if answer.code is Code.MALFORMED:
                raise Refused(answer.why)
            if answer.leader == found.node or time.monotonic() >= deadline:
                raise NotTransferred(answer.why)
            await asyncio.sleep(POLL_S)  # another leads by now

    async def _leader(self, deadline: float) -> LeaderFound:
        while (found := leading(await self.statuses(), self._liars)) is None:
            if time.monotonic() >= deadline:
                raise NoQuorum("no leader is known")
            await asyncio.sleep(POLL_S)
        return found

    async def statuses(self) -> list[tuple[str, Status | QuorateError]]:
        """Each endpoint with what it says of itself, or why it says nothing."""
        found = await asyncio.gather(*(self._status_of(address) for address in self.endpoints.addresses))
        return list(zip(self.endpoints.addresses, found, strict=True))

    async def _look(self, deadline: float) -> Look:
        cluster = await self._described(deadline)
        asked = [known.client for known in cluster.there if known.client]
        addresses = list(dict.fromkeys((*asked, *self.endpoints.addresses)))
        found = dict(zip(addresses, await asyncio.gather(*map(self._status_of, addresses)), strict=True))
        elsewhere = [found[address] for address in addresses if address not in asked]
        return Look(
            cluster, tuple((known, _said_of(known, found.get(known.client), elsewhere)) for known in cluster.there)
        )

    async def _described(self, deadline: float) -> Description:
        """The cluster, as enough endpoints describe it."""
        await self._has_mode_by(deadline)
        faults = self._liars
        while True:
            found = await self.descriptions()
            if (cluster := believed_cluster(found, faults)) is not None:
                return cluster
            if time.monotonic() >= deadline:
                raise NoQuorum(why_not_believed(found, faults))
            await asyncio.sleep(POLL_S)

    async def descriptions(self) -> Descriptions:
        """Each endpoint with how it describes the cluster, or why it does not."""
        found = await asyncio.gather(*(self._description_of(address) for address in self.endpoints.addresses))
        return list(zip(self.endpoints.addresses, found, strict=True))

    async def _description_of(self, address: str) -> Description | QuorateError:
        try:
            answer = await ask_node(address, encode(AskCluster(0)), self._patience_s, self.cluster)
            description = decode_description(answer)
        except Unreachable as error:
            return error
        except DECODE_ERRORS as error:
            return Refused(f"{address} sent what describes no cluster: {error}")
        return description if isinstance(description, Description) else Refused(f"{address}: {description.why}")

    async def _status_of(self, address: str) -> Status | QuorateError:
        try:
            status = decode_response(await ask_node(address, encode(AskStatus(0)), self._patience_s, self.cluster))
        except Unreachable as error:
            return error
        except DECODE_ERRORS as error:
            return Refused(f"{address} sent what is no status: {error}")
        return status if isinstance(status, Status) else Refused(f"{address} answered no status")

    @property
    def _patience_s(self) -> float:
        return min(self.timeout_s, DIAL_TIMEOUT_S)


def _said_of(
    known: Known, there: Status | QuorateError | None, elsewhere: Sequence[Status | QuorateError]
) -> Status | QuorateError:
    """What a node says where it should be, or, if nothing, at an endpoint that is not known to be any node's."""
    if isinstance(there, Status) and there.node == known.node:
        return there
    for said in elsewhere:
        if isinstance(said, Status) and said.node == known.node:
            return said
    if isinstance(there, Status):
        return Unreachable(f"node {there.node} answers at {known.client}, not node {known.node}")
    return Unreachable("nobody said where clients reach it, and no endpoint is it") if there is None else there
