"""What can go wrong for a client or a handle. Each text says what is known of the outcome, and what to do."""


class QuorateError(Exception):
    """Base of all that a client or a handle raises of its own accord.

    What a method of a replicated object raised is not among them: it is raised again as itself, or as CommandFailed.
    """


class Unreachable(QuorateError):
    """No node could be reached in time. Nothing was sent."""


class NotRunning(Unreachable):
    """The client, or the replication behind a handle, was not started yet or is closed. Nothing was sent."""


class Forked(NotRunning):
    """It was made in another process, of which this one is a fork. Nothing was sent: make one in this process."""


class NodeFailed(NotRunning):
    """The node in this process has stopped, and the text says why. Nothing was sent."""


class BlocksLoop(QuorateError):
    """A blocking call, made where an event loop runs, would have stopped that loop. Nothing was sent."""


class NoQuorum(QuorateError):
    """Nodes answer, but none can get a quorum, or no leader is known. Nothing happened."""


class Busy(NoQuorum):
    """The nodes had too much to do for all of the time-out, or this client asked too much of them. Nothing happened."""


class NotTransferred(QuorateError):
    """No other node took over the leadership in time: the one that had it leads on. Nothing happened."""


class OutcomeUnknown(QuorateError):
    """A command was sent and no answer came in time: it may or may not have taken effect, or still do so."""


class SessionExpired(OutcomeUnknown):
    """The cluster no longer knows the session; the next call opens another."""


class TooLarge(QuorateError):
    """The request is above a limit, and nothing was sent; or the answer is, and a command has taken effect.

    ``took_effect`` says which, and so does the text.
    """

    def __init__(self, text: str, *, took_effect: bool = False) -> None:
        super().__init__(text)
        self.took_effect = took_effect

    @classmethod
    def answer(cls, why: str, *, is_read: bool) -> "TooLarge":
        """The answer to a request is too large."""
        if is_read:
            return cls(f"{why}: ask for less at once")
        return cls(f"the command took effect, but {why}: ask for less at once", took_effect=True)


class Refused(QuorateError):
    """A node or the state machine refused the request. Nothing happened."""
