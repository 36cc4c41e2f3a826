"""LedgerClient: payments and questions to a cluster that keeps a ledger. Proofs are checked here, not believed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

from quorate.ledger.header import sha256d
from quorate.machines.chain import chain_messages as messages
from quorate.service.client.aio import Connection
from quorate.service.client.errors import Refused

T = TypeVar("T")


class NotThere(Refused):
    """No block, or payment, of that name is in the chain that the nodes keep."""


class LedgerClient(Connection):
    """Calls raise what those of a Connection do; Refused also for an answer that does not prove what it says."""

    async def send(self, payments: Sequence[bytes]) -> messages.Batched:
        """Have signed payments made a block. Those that did not apply are named in the answer."""
        batch = messages.encode_batch(payments, int(time.time()))
        return _expect(await self.command(batch), messages.Batched)

    async def head(self, *, serializable: bool = False) -> messages.Head:
        """The last block; ``serializable``: as one node has it, however old."""
        query = messages.encode_chain(messages.AskHead())
        head = _expect(await self.query(query, serializable=serializable), messages.Head)
        _believe(head.block.refusal())
        return head

    async def account(self, address: bytes) -> messages.AccountAt:
        """What it has after the last block, proved against that block's id."""
        answer = _expect(await self._ask(messages.AskAccount(address)), messages.AccountAt)
        _believe(answer.proof.refusal(answer.id))
        if answer.proof.account.address != address:
            raise Refused("the node's answer is about another account")
        return answer

    async def block(self, height: int = 0, id: bytes = b"") -> messages.Whole:
        """By height or id."""
        answer = _expect(await self._ask(messages.AskBlock(height, id)), messages.Whole)
        _believe(answer.block.refusal())
        if answer.block.header.id != answer.id or (id and id != answer.id):
            raise Refused("the node's answer is another block")
        if not id and answer.block.payload.height != height:
            raise Refused("the node's answer is a block of another height")
        return answer

    async def payment(self, id: bytes) -> messages.PaymentAt:
        """Where it is, proved against that block's id."""
        answer = _expect(await self._ask(messages.AskPayment(id)), messages.PaymentAt)
        _believe(answer.proof.refusal(answer.id))
        if sha256d(answer.proof.raw) != id:
            raise Refused("the node's answer is about another payment")
        return answer

    async def _ask(self, query: messages.ChainQuery) -> bytes:
        return await self.query(messages.encode_chain(query))


def _believe(refusal: str | None) -> None:
    if refusal is not None:
        raise Refused(f"the node's answer is not proved: {refusal}")


def _expect(data: bytes, kind: type[T]) -> T:
    try:
        answer = messages.decode_chain_answer(data)
    except messages.CHAIN_ERRORS:
        why = "the node's answer is not one of a ledger. Was the cluster begun with `quorate up --ledger`?"
        raise Refused(why) from None
    if isinstance(answer, messages.ChainError):
        raise (NotThere if answer.is_missing else Refused)(answer.why)
    if not isinstance(answer, kind):
        raise Refused(f"the node answered {type(answer).__name__} where {kind.__name__} was asked for")
    return answer
