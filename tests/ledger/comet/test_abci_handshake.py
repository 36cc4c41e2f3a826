"""What an engine and its app do when they meet: one test a rule, and every crash between the steps of a block."""

from collections.abc import Callable

import pytest

from quorate.ledger.comet.abci.handshake import (
    CallApp,
    HandshakeFailed,
    Heights,
    LastBlock,
    Ready,
    ReplayPlan,
    Save,
    handshake,
    plan,
)
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


def heights(app: int, store: int, state: int, base: int = 1, initial: int = 1) -> Heights:
    return Heights(app=app, store=store, state=state, base=base if store else 0, initial=initial)


THERE, BY_APP, BY_SAVED = LastBlock.IS_THERE, LastBlock.BY_APP, LastBlock.BY_SAVED_ANSWER


@pytest.mark.parametrize(
    ("found", "planned"),
    [
        (heights(0, 0, 0), ReplayPlan(True, range(0), THERE)),  # a new chain
        (heights(7, 0, 7), ReplayPlan(False, range(0), THERE)),  # a state sync ended, and no block was stored since
        (heights(7, 7, 7), ReplayPlan(False, range(0), THERE)),  # all is done
        (heights(5, 7, 7), ReplayPlan(False, range(6, 8), THERE)),  # the app is behind
        (heights(0, 7, 7), ReplayPlan(True, range(1, 8), THERE)),  # the app has lost everything
        (heights(0, 12, 12, initial=10), ReplayPlan(True, range(10, 13), THERE)),
        (heights(6, 7, 6), ReplayPlan(False, range(0), BY_APP)),  # neither has run the stored block
        (heights(4, 7, 6), ReplayPlan(False, range(5, 7), BY_APP)),  # and the app is behind
        (heights(0, 1, 0), ReplayPlan(True, range(0), BY_APP)),  # the first block of all
        (heights(0, 10, 0, initial=10), ReplayPlan(True, range(0), BY_APP)),
        (heights(0, 11, 10, initial=10), ReplayPlan(True, range(10, 11), BY_APP)),
        (heights(7, 7, 6), ReplayPlan(False, range(0), BY_SAVED)),  # Commit was done, and the state not saved
        (heights(1, 1, 0), ReplayPlan(False, range(0), BY_SAVED)),
        (heights(3, 7, 7, base=4), ReplayPlan(False, range(4, 8), THERE)),  # just not too far behind
    ],
)
def test_what_the_heights_ask_for(found: Heights, planned: ReplayPlan) -> None:
    made = plan(found)
    assert (made.begins, list(made.again), made.last) == (planned.begins, list(planned.again), planned.last)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (heights(-1, 7, 7), "tells of height -1, which is none"),
        (heights(8, 7, 7), "app is at height 8, and the engine's blocks end at 7.*reset the other too"),
        (heights(8, 7, 6), "app is at height 8, and the engine's blocks end at 7"),
        (heights(3, 0, 0), "app is at height 3, and the engine, which has no blocks, at 0"),
        (heights(0, 0, 7), "app is at height 0, and the engine, which has no blocks, at 7"),
        (heights(2, 7, 7, base=4), "needs the blocks after it, but those below 4 were pruned"),
        (heights(0, 7, 7, base=2), "needs the blocks after it, but those below 2 were pruned"),
        (heights(6, 6, 7), "blocks end at 6, and its state at 7"),
        (heights(5, 7, 5), "blocks end at 7, and its state at 5"),
        (heights(0, 2, 0), "blocks end at 2, and its state at 0"),
    ],
)
def test_heights_that_cannot_be(found: Heights, says: str) -> None:
    with pytest.raises(HandshakeFailed, match=rf"{says}.*What to do: |{says}"):
        plan(found)


class Both:
    """An engine's disk and an app whose hash is the number of the block. It crashes after so many steps."""

    def __init__(self, store: int, state: int, app: int, saved: int = 0, base: int = 1) -> None:
        self.store, self.state, self.app, self.saved, self.base = store, state, app, saved, base
        self.ran = app
        self.calls: list[str] = []

    def heights(self, app: int) -> Heights:
        return Heights(app=app, store=self.store, state=self.state, base=self.base if self.store else 0)

    def app_hash(self) -> bytes:
        return b"%d" % self.state

    def finalize_request(self, height: int) -> RequestFinalizeBlock:
        assert self.base <= height <= self.store
        return RequestFinalizeBlock(height=height)

    def header_app_hash(self, height: int) -> bytes:
        return b"%d" % (height - 1)

    def saved_answer(self, height: int) -> ResponseFinalizeBlock | None:
        return ResponseFinalizeBlock(app_hash=b"%d" % height) if self.saved == height else None

    def answer(self, request: Request) -> Response:
        """As the app."""
        self.calls.append(type(request).__name__.removeprefix("Request"))
        match request:
            case RequestInfo():
                return ResponseInfo(last_block_height=self.app, last_block_app_hash=b"%d" % self.app)
            case RequestInitChain():
                self.ran = 0
                return ResponseInitChain(app_hash=b"0")
            case RequestFinalizeBlock():
                assert request.height == self.app + 1
                self.ran = request.height
                return ResponseFinalizeBlock(app_hash=b"%d" % self.ran)
            case RequestCommit():
                self.app = self.ran
                return ResponseCommit()
        raise AssertionError(request)

    def meet(self, steps_max: int = 1000) -> Ready | None:
        """A handshake, and the state saved after it; None: the engine crashed after so many steps."""
        steps = handshake(self, RequestInitChain(), RequestInfo())
        answer: Response | None = None
        for _ in range(steps_max):
            try:
                step = steps.send(answer)
            except StopIteration as end:
                ready: Ready = end.value
                if ready.last is not None:
                    assert ready.last.app_hash == b"%d" % self.store
                    self.state = self.store
                return ready
            if isinstance(step, CallApp):
                answer = self.answer(step.request)
            else:
                assert isinstance(step, Save)
                self.calls.append("Save")
                self.saved, answer = step.height, None
        return None


def test_the_steps_of_a_new_chain() -> None:
    both = Both(0, 0, 0)
    ready = both.meet()
    assert both.calls == ["Info", "InitChain"]
    assert ready is not None
    assert (ready.began, ready.last, ready.app_hash) == (ResponseInitChain(app_hash=b"0"), None, b"0")


def test_the_last_block_is_saved_before_it_is_committed() -> None:
    both = Both(store=7, state=6, app=5)
    assert both.meet() is not None
    assert both.calls == ["Info", "FinalizeBlock", "Commit", "FinalizeBlock", "Save", "Commit"]


def test_a_committed_block_is_not_run_again() -> None:
    both = Both(store=7, state=6, app=7, saved=7)
    ready = both.meet()
    assert both.calls == ["Info"]
    assert ready is not None
    assert ready.last == ResponseFinalizeBlock(app_hash=b"7")


@pytest.mark.parametrize("app", range(5))
def test_every_crash_of_the_handshake_itself_is_recovered_from(app: int) -> None:
    """However often it crashes, and after whichever step."""
    for steps_max in range(1, 12):
        both = Both(store=4, state=3, app=app, saved=4 if app == 4 else 0)
        for _ in range(4):
            if both.meet(steps_max) is not None:
                break
            both.ran = both.app  # or the app crashed with it, which is the same for it
        assert both.meet() is not None
        assert (both.app, both.state) == (4, 4)


WRONG_HASH = b"wrong"


@pytest.mark.parametrize(
    ("both", "change", "says"),
    [
        (Both(7, 7, 7), "info", "after block 7 the app's hash is 77726f6e67, and the chain's 37"),
        (Both(7, 7, 5), "info", "before block 6"),
        (Both(7, 6, 6), "info", "before block 7"),
        (Both(7, 6, 7, saved=7), "info", "after block 7"),
        (Both(0, 7, 7), "info", "after block 7"),
        (Both(7, 7, 5), "block", "before block 7"),
        (Both(7, 7, 6), "block", "after block 7"),
        (Both(7, 7, 0), "begin", "before block 1"),
    ],
)
def test_an_app_of_another_chain(both: Both, change: str, says: str) -> None:
    answer: Callable[[Request], Response] = both.answer

    def wrong(request: Request) -> Response:
        right = answer(request)
        match change, right:
            case "info", ResponseInfo():
                return ResponseInfo(last_block_height=right.last_block_height, last_block_app_hash=WRONG_HASH)
            case "block", ResponseFinalizeBlock():
                return ResponseFinalizeBlock(app_hash=WRONG_HASH)
            case "begin", ResponseInitChain():
                return ResponseInitChain(app_hash=WRONG_HASH)
        return right

    both.answer = wrong  # type: ignore[method-assign]
    with pytest.raises(HandshakeFailed, match=rf"{says}.*What to do: see whether the app belongs to this chain"):
        both.meet()


def test_a_saved_answer_that_is_gone() -> None:
    with pytest.raises(HandshakeFailed, match=r"has committed block 7, and its answer .* is not there"):
        Both(7, 6, 7).meet()


def test_an_app_that_names_no_hash_at_genesis_has_that_of_the_genesis() -> None:
    both = Both(0, 0, 0)
    answer = both.answer
    both.answer = lambda request: (  # type: ignore[method-assign]
        ResponseInitChain() if isinstance(request, RequestInitChain) else answer(request)
    )
    ready = both.meet()
    assert ready is not None
    assert ready.app_hash == b"0"
