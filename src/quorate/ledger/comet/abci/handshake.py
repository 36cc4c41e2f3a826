"""What an engine does with its app when it starts: where both stand, and which blocks the app must run again.

How it works. A node that crashed between the steps of a block (store it; FinalizeBlock; save the answer; Commit; save
the state) finds its store at most one block above its state, and the app anywhere from far behind to level with the
store. ``plan`` says from these heights alone what to do. ``handshake`` does it, as a generator without socket or disk.
It yields ``CallApp`` and is sent the answer, or ``Save`` and is sent None when that is durable; at last it returns
``Ready``. Save comes before the Commit of the last block, so that a crash after Commit finds what was saved.

What must not be is a HandshakeFailed, which says what to do: an app ahead of the store, or one of another chain.

Departures. CometBFT panics where this raises. It compares the app's hash with the chain's at the end and between blocks
that it replays; here that is done before the first and the last of them as well, so no block is run on a wrong state.
A first block of a chain that begins above height 1 is one block ahead of an empty state here, and a panic there.

Source: CometBFT 0.38, ``consensus/replay.go`` (Handshaker); ``spec/abci/abci++_app_requirements.md`` (Crash Recovery).
"""

from __future__ import annotations

import enum
from collections.abc import Generator
from typing import Final, Protocol, TypeAlias, TypeVar

import msgspec

from quorate.ledger.comet.abci.request_messages import (
    Request,
    RequestCommit,
    RequestFinalizeBlock,
    RequestInfo,
    RequestInitChain,
)
from quorate.ledger.comet.abci.response_messages import (
    Response,
    ResponseCommit,
    ResponseFinalizeBlock,
    ResponseInfo,
    ResponseInitChain,
)

T = TypeVar("T")
R = TypeVar("R", bound=Response)

RESET: Final = "if one of the two was reset, reset the other too; or give it back its state from a backup"


class HandshakeFailed(Exception):
    """App and engine cannot go on together."""


class Heights(msgspec.Struct, frozen=True, kw_only=True):
    """Of the last block: in the app, in the block store, in the engine's state. 0: none."""

    app: int
    store: int
    state: int
    base: int = 0
    """The lowest block in the store; 0: none."""
    initial: int = 1
    """Of the chain's first block."""


class LastBlock(enum.Enum):
    """How the last block in the store gets into the engine's state."""

    IS_THERE = enum.auto()
    BY_APP = enum.auto()
    """Neither the app nor the state has it: the app runs it."""
    BY_SAVED_ANSWER = enum.auto()
    """The app has committed it: what it answered then was saved."""


class ReplayPlan(msgspec.Struct, frozen=True):
    """Whether to begin the chain; the blocks that the app runs again, whose outcome the engine has; the last one."""

    begins: bool
    again: range
    last: LastBlock


def plan(heights: Heights) -> ReplayPlan:
    """What these heights ask for. Raises HandshakeFailed."""
    _check(heights)
    app, store, state = heights.app, heights.store, heights.state
    begins = app == 0
    if store == 0:  # at genesis, or just after a state sync
        return ReplayPlan(begins, range(0), LastBlock.IS_THERE)
    first = heights.initial if begins else app + 1
    if store == state:  # all steps of the last block were done
        return ReplayPlan(begins, range(first, store + 1), LastBlock.IS_THERE)
    if app == store:  # Commit was the last step that was done
        return ReplayPlan(begins, range(0), LastBlock.BY_SAVED_ANSWER)
    return ReplayPlan(begins, range(first, store), LastBlock.BY_APP)


def _check(heights: Heights) -> None:
    app, store, state, base = heights.app, heights.store, heights.state, heights.base
    if app < 0:
        raise HandshakeFailed(f"the app tells of height {app}, which is none. What to do: mend the app")
    if store == 0 and app != state:
        raise HandshakeFailed(
            f"the app is at height {app}, and the engine, which has no blocks, at {state}. What to do: {RESET}"
        )
    if store == 0:
        return
    if store not in (state, state + 1 if state else heights.initial):
        raise HandshakeFailed(
            f"the engine's blocks end at {store}, and its state at {state}, which is no crash of a node. "
            "What to do: restore the engine's folder from a backup"
        )
    if app > store:
        raise HandshakeFailed(
            f"the app is at height {app}, and the engine's blocks end at {store}. What to do: {RESET}"
        )
    if (heights.initial if app == 0 else app + 1) < base:
        raise HandshakeFailed(
            f"the app is at height {app} and needs the blocks after it, but those below {base} were pruned. "
            "What to do: give the app its state back from a backup, or let the node begin anew by state sync"
        )


class StoredChain(Protocol):
    """What the handshake reads of the engine's disk."""

    def heights(self, app: int) -> Heights:
        """With the app's beside them."""

    def app_hash(self) -> bytes:
        """The state's: of the app after the last block that the state has, or of the genesis."""

    def finalize_request(self, height: int) -> RequestFinalizeBlock:
        """The block at a height of the store, as FinalizeBlock has it."""

    def header_app_hash(self, height: int) -> bytes:
        """What the header at this height says of the app before it."""

    def saved_answer(self, height: int) -> ResponseFinalizeBlock | None:
        """What ``Save`` saved for this height; None: nothing."""


class CallApp(msgspec.Struct, frozen=True):
    """Put this to the app, and send the answer."""

    request: Request


class Save(msgspec.Struct, frozen=True):
    """Make this durable, and send None."""

    height: int
    answer: ResponseFinalizeBlock


class Ready(msgspec.Struct, frozen=True):
    """App and store are level."""

    info: ResponseInfo
    began: ResponseInitChain | None
    """The answer to InitChain, if the app was at height 0: it is for the state of an engine that has none."""
    last: ResponseFinalizeBlock | None
    """What the last block of the store does to the state, if the state does not have it."""
    app_hash: bytes


HandshakeSteps: TypeAlias = Generator[CallApp | Save, Response | None, T]


def handshake(chain: StoredChain, genesis: RequestInitChain, engine: RequestInfo) -> HandshakeSteps[Ready]:
    """Bring the app level with the store. Raises HandshakeFailed out of ``next`` and ``send``."""
    info = yield from _ask(engine, ResponseInfo)
    heights = chain.heights(info.last_block_height)
    todo = plan(heights)
    began = None
    app_hash = info.last_block_app_hash
    if todo.begins:
        began = yield from _ask(genesis, ResponseInitChain)
        # An app that says nothing keeps the hash that the genesis has.
        app_hash = began.app_hash or (chain.header_app_hash(heights.initial) if heights.store else chain.app_hash())
    for height in todo.again:
        _check_hash(f"before block {height}", app_hash, chain.header_app_hash(height))
        app_hash = (yield from _run(chain, height, saves=False)).app_hash
    last = None
    if todo.last is LastBlock.BY_APP:
        _check_hash(f"before block {heights.store}", app_hash, chain.header_app_hash(heights.store))
        last = yield from _run(chain, heights.store, saves=True)
        app_hash = last.app_hash
    elif todo.last is LastBlock.BY_SAVED_ANSWER:
        last = _saved(chain, heights.store)
        _check_hash(f"after block {heights.store}", app_hash, last.app_hash)
    elif heights.store or began is None:
        _check_hash(f"after block {heights.state}", app_hash, chain.app_hash())
    return Ready(info, began, last, app_hash)


def _run(chain: StoredChain, height: int, *, saves: bool) -> HandshakeSteps[ResponseFinalizeBlock]:
    answer = yield from _ask(chain.finalize_request(height), ResponseFinalizeBlock)
    if saves:
        yield Save(height, answer)
    yield from _ask(RequestCommit(), ResponseCommit)
    return answer


def _ask(request: Request, kind: type[R]) -> HandshakeSteps[R]:
    answer = yield CallApp(request)
    assert isinstance(answer, kind), "a connection gives the answer that belongs to the request"
    return answer


def _saved(chain: StoredChain, height: int) -> ResponseFinalizeBlock:
    answer = chain.saved_answer(height)
    if answer is None:
        raise HandshakeFailed(
            f"the app has committed block {height}, and its answer to that, which is saved before, is not there. "
            "What to do: restore the engine's folder from a backup"
        )
    return answer


def _check_hash(when: str, app: bytes, chain: bytes) -> None:
    if app != chain:
        raise HandshakeFailed(
            f"{when} the app's hash is {app.hex() or 'empty'}, and the chain's {chain.hex() or 'empty'}. "
            f"What to do: see whether the app belongs to this chain and is of the right version; {RESET}"
        )
