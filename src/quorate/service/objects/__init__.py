"""Replicated objects: a plain Python class whose marked methods go through consensus.

Subclass Replicated, mark methods with ``@command`` (they change state, in one order everywhere) or ``@read``, and run
the class on one node or on several with ``replicate``. ``machine.py`` says what may be state, ``replicate.py`` how it
runs.
"""

from quorate.machines.objects.machine import CommandFailed, ObjectMachine, Replicated, command, invariant, read
from quorate.service.objects.replicate import Replication, replicate

__all__ = ["CommandFailed", "ObjectMachine", "Replicated", "Replication", "command", "invariant", "read", "replicate"]
