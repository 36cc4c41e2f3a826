"""Replicated objects: a plain Python class whose marked methods go through consensus.

Subclass Replicated, mark methods with ``@command`` (they change state, in one order everywhere) or ``@read``, and run
the class on one node or on several with ``replicate``, or call it on other processes' nodes with ``connect``.
``machine.py`` says what may be state, ``access.py`` how calls get there.
"""

from quorate.machines.objects.context import now, random, uuid
from quorate.machines.objects.machine import (
    CommandFailed,
    NotActive,
    ObjectMachine,
    Replicated,
    command,
    invariant,
    read,
)
from quorate.service.objects.handles import Async
from quorate.service.objects.many import RemoteObjects, ReplicationOfMany, connect_many, replicate_many
from quorate.service.objects.remote import RemoteObject, connect
from quorate.service.objects.replicate import Replication, replicate

__all__ = [
    "Async",
    "CommandFailed",
    "NotActive",
    "ObjectMachine",
    "RemoteObject",
    "RemoteObjects",
    "Replicated",
    "Replication",
    "ReplicationOfMany",
    "command",
    "connect",
    "connect_many",
    "invariant",
    "now",
    "random",
    "read",
    "replicate",
    "replicate_many",
    "uuid",
]
