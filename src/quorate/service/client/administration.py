"""Administration: the part of the asynchronous client that asks nodes who votes and who leads, and has that changed.

It is a program above the client: it asks every node for its status on a link of its own, until enough of them say the
same (``membership.py``), and has changes decided as the client has commands.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress

from quorate.parts.log import configuration
from quorate.parts.log.configuration import Newcomer, Voters
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
from quorate.service.client.link import DIAL_TIMEOUT_S, dial
from quorate.service.client.membership import (
    POLL_S,
    Statuses,
    believed,
    furthest,
    here,
    is_over,
    missing,
    text_of,
    why_not_caught_up,
)
from quorate.service.requests import (
    DECODE_ERRORS,
    AskStatus,
    Code,
    Failure,
    Request,
    Response,
    Result,
    Status,
    TransferLeadership,
    decode_response,
    encode,
)


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
    def _is_byzantine(self) -> bool:
        """Whether nodes may lie."""

    @abstractmethod
    async def _has_mode_by(self, deadline: float) -> None:
        """Wait until it is known whether nodes may lie. Raises Unreachable, Refused."""

    @abstractmethod
    async def _reconfigure(self, change: bytes, deadline: float) -> None:
        """Have a change of the members decided. Raises as ``set_members``."""

    async def members(self) -> Voters:
        """Who votes, and who will where a change is under way: the newest that enough nodes say.

        Raises Unreachable, NoQuorum, Refused.
        """
        return (await self._voters(time.monotonic() + self.timeout_s))[0]

    async def set_members(self, members: Sequence[int]) -> Voters:
        """Have these nodes vote and no others; returns when they do. To ask for what is so already changes nothing.

        Where nodes may lie, ``key`` of this client is an administrator's. Raises ValueError for no members or too many;
        Refused where the nodes do not take that change, or others changed the members meanwhile; Unreachable, NoQuorum;
        OutcomeUnknown where it may still take effect.
        """
        wanted = tuple(sorted(set(members)))
        configuration.encode_change(wanted)
        deadline = time.monotonic() + self.timeout_s
        before, _ = await self._voters(deadline)
        if before.members == wanted and not before.next_members:
            return before
        return await self._change(wanted, before, (), (), deadline)

    async def add_node(self, node: int, peer: str, client: str, key: bytes = b"") -> Voters:
        """Have a node join: introduce it, wait until it has caught up, and have it vote. Returns when it does.

        ``peer`` is where the other nodes reach it, ``client`` where clients do, ``key`` its public key where nodes
        sign. It is to be running. What is so already changes nothing, so it may be asked for again. Raises as
        ``set_members``, and OutcomeUnknown where the node follows and has not caught up in time.
        """
        newcomer = Newcomer(node, peer, key)
        deadline = time.monotonic() + self.timeout_s
        before, statuses = await self._voters(deadline)
        if node not in here(statuses, before, self._liars):
            await self._change(before.members, before, (newcomer,), (), deadline)
            before, statuses = await self._voters(deadline)
            if node not in here(statuses, before, self._liars):
                raise Refused("others have changed the members meanwhile: look again")
        await self._until_caught_up(node, client, deadline)
        return await self.set_members([*before.members, node])

    async def remove_nodes(self, nodes: Sequence[int]) -> Voters:
        """Have nodes leave the cluster for good; returns when it goes on without them, and they may be switched off.

        Their numbers are not used again. Raises as ``set_members``.
        """
        deadline = time.monotonic() + self.timeout_s
        before, statuses = await self._voters(deadline)
        leavers = tuple(sorted(set(nodes) & here(statuses, before, self._liars)))
        rest = tuple(node for node in before.members if node not in nodes)
        if not leavers and rest == before.members:
            return before
        return await self._change(rest, before, (), leavers, deadline)

    async def _change(
        self,
        wanted: tuple[int, ...],
        before: Voters,
        newcomers: Sequence[Newcomer],
        leavers: Sequence[int],
        deadline: float,
    ) -> Voters:
        change = configuration.encode_change(wanted, before.epoch, newcomers, leavers)
        refused: Refused | None = None
        try:
            await self._reconfigure(change, deadline)
        except Refused as error:
            refused = error  # unless an earlier sending was taken in, and this is what became of a later one
        since = before.epoch + 1 if newcomers or leavers else 0
        return await self._until_members(wanted, before, refused, deadline, since)

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
            is_byzantine = self._is_byzantine
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
            answer = await self._ask(found.address, TransferLeadership(0, to), deadline - time.monotonic())
            if isinstance(answer, Result) and answer.data.isdigit():
                return int(answer.data)
            if isinstance(answer, TimeoutError):
                raise OutcomeUnknown(f"node {found.node} gave no answer within {self.timeout_s:g} s")
            if isinstance(answer, QuorateError):
                raise answer
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

    # --- one question, on a link of its own ---

    async def statuses(self) -> list[tuple[str, Status | QuorateError]]:
        """Each endpoint with what it says of itself, or why it says nothing."""
        found = await asyncio.gather(*(self._status_of(address) for address in self.endpoints.addresses))
        return list(zip(self.endpoints.addresses, found, strict=True))

    async def _status_of(self, address: str) -> Status | QuorateError:
        answer = await self._ask(address, AskStatus(0), min(self.timeout_s, DIAL_TIMEOUT_S))
        if isinstance(answer, Status | QuorateError):
            return answer
        if isinstance(answer, TimeoutError):
            return Unreachable(f"{address} accepts connections but gives no answer")
        return Refused(f"{address} answered no status")

    async def _ask(self, address: str, request: Request, patience_s: float) -> Response | QuorateError | TimeoutError:
        """What a node answers; TimeoutError if it was sent and no answer came in time, or the link ended."""
        answer: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()

        def on_reply(frames: list[bytes]) -> None:
            if not answer.done():
                answer.set_result(frames)

        try:
            link, _ = await dial(address, on_reply, min(self.timeout_s, DIAL_TIMEOUT_S), self.cluster)
        except Unreachable as error:
            return error
        try:
            link.send(encode(request))
            async with asyncio.timeout(max(0.0, patience_s)):
                await asyncio.wait((answer, link.lost), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                return TimeoutError()
            response: Response = decode_response(answer.result()[0])
            return response
        except TimeoutError as error:
            return error
        except DECODE_ERRORS as error:
            return Refused(f"{address} sent what is no answer: {error}")
        finally:
            link.close("done")
