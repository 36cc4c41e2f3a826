"""The service with a planted bug, beside those of each protocol."""

from quorate.kernel import App
from quorate.service.replica import Replica
from quorate.service.sessions import Sessions
from quorate.service.signed import SignedReplica
from quorate.sim.mutant import Mutant


class ForgetsSessions(Replica):
    """Breaks §6.3 of the dissertation: the session table is part of the replicated state, and so of its snapshots."""

    def _encode_sessions(self) -> bytes:
        return Sessions().encode()


class ForgetsSignedSessions(ForgetsSessions, SignedReplica):
    """The same where clients sign."""


def _forgets_sessions(app: App) -> App:
    assert isinstance(app, Replica)
    return (ForgetsSignedSessions if isinstance(app, SignedReplica) else ForgetsSessions)(app.machine)


class ExpiresAnybody(Sessions):
    """Breaks the rule of ``sessions.py`` that who has done nothing yet does not push out who has."""

    def _establish(self, session: int) -> None:
        """Nobody is established: the session that was used longest ago goes."""


def _expires_anybody(app: App) -> App:
    assert isinstance(app, Replica)
    app.sessions = ExpiresAnybody(app.sessions.count_max)
    return app


MUTANTS = (Mutant("drops-sessions", "a snapshot does not hold the table of client sessions", app=_forgets_sessions),)

SIGNED_MUTANTS = (
    Mutant("expires-anybody", "sessions of made-up keys push out those that are in use", app=_expires_anybody),
)
"""Where clients sign, and whoever makes a key is one."""
