"""Batteries: replicated classes that are ready for use, and small enough to be read as examples.

Run one with ``replicate(Queue, ...)`` or call one with ``connect(Queue, ...)``. The methods are what each class says;
none of them waits for another client.
"""

from quorate.objects.arguments import Full, StaleToken
from quorate.objects.barrier import Barrier
from quorate.objects.clock import NoTrustedTime
from quorate.objects.containers import ReplicatedDict, ReplicatedList, ReplicatedSet
from quorate.objects.counter import Counter
from quorate.objects.limiter import RateLimiter
from quorate.objects.locks import Election, Holder, Lock
from quorate.objects.queues import Delivery, PriorityQueue, Queue

__all__ = [
    "Barrier",
    "Counter",
    "Delivery",
    "Election",
    "Full",
    "Holder",
    "Lock",
    "NoTrustedTime",
    "PriorityQueue",
    "Queue",
    "RateLimiter",
    "ReplicatedDict",
    "ReplicatedList",
    "ReplicatedSet",
    "StaleToken",
]
