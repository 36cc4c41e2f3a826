"""What can go wrong for a client. Each text says what is known of the outcome, and what to do."""


class QuorateError(Exception):
    """Base of all that a client raises."""


class Unreachable(QuorateError):
    """No node could be reached in time. Nothing was sent."""


class NoQuorum(QuorateError):
    """Nodes answer, but none can get a quorum, or no leader is known. Nothing happened."""


class OutcomeUnknown(QuorateError):
    """A command was sent and no answer came in time: it may or may not have taken effect, or still do so."""


class SessionExpired(OutcomeUnknown):
    """The cluster no longer knows the session; the next call opens another."""


class TooLarge(QuorateError):
    """The request is above a limit, and nothing happened; or the answer is, and a command has taken effect."""


class Refused(QuorateError):
    """A node or the state machine refused the request. Nothing happened."""
