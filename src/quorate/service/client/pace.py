"""Pace: how long a client waits for what, and how much it has under way. Only the simulator chooses another."""

import msgspec


class Pace(msgspec.Struct, frozen=True):
    """Times in seconds."""

    sweep_s: float = 0.05
    """When a refused request is sent again, and the first delay before a node is dialled again."""
    busy_s_max: float = 0.4
    """What a busy node refused is sent again after ``sweep_s``, twice as long after the next refusal, up to this."""
    redial_s_max: float = 1.0
    """Delays before a node is dialled again double up to this. A link that ended sooner counts as a failure."""
    patience_s: float = 1.0
    """How long an answer may stay out before the client turns to another node."""
    patience_s_max: float = 8.0
    """When all nodes were silent for that long, the answers may just take longer: it doubles, up to this maximum."""
    short_links_free: int = 3
    """How many short links may follow each other at once, to find the leader, before the client slows down."""
    read_patience_s: float = 0.5
    """How long a read past the log may take before it goes through the log."""
    resend_s: float = 1.0
    resend_s_max: float = 8.0
    """Where nodes may lie, a request without an answer is sent again after so long; this doubles up to the maximum."""
    pipeline_max: int = 2048
    """Requests under way at once; more wait for their turn."""
