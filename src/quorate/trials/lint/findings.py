"""A finding: where, what, why it breaks, and what to write instead."""

from __future__ import annotations

import ast
from typing import Final

import msgspec


class Advice(msgspec.Struct, frozen=True):
    """Why something breaks, and what to write instead."""

    why: str
    instead: str


class Finding(msgspec.Struct, frozen=True, order=True):
    """One, at a line (from 1) and a column (from 1)."""

    line: int
    column: int
    rule: str
    what: str
    why: str
    instead: str


CLOCK: Final = Advice(
    "each node applies the command at another time", "write quorate.now(), the time that the log carries"
)
CHANCE: Final = Advice("each node draws something else", "draw from quorate.random(), whose seed the log carries")
IDENTITY: Final = Advice("each node makes another identifier", "write quorate.uuid(), the same on every node")
ADVICE: Final = {
    "clock": CLOCK,
    "chance": CHANCE,
    "uuid": IDENTITY,
    "environment": Advice("each node has its own environment, process and files", "pass the value in as an argument"),
    "network": Advice(
        "each node asks again, at another time, and gets another answer or none",
        "ask at the caller and pass the answer in as an argument",
    ),
    "file": Advice("each node has its own files", "read at the caller and pass the content in as an argument"),
    "process": Advice("each node starts its own, with its own result", "run it at the caller and pass the result in"),
    "concurrency": Advice("threads and tasks run in another order on each node", "do it in this one method, in order"),
    "id": Advice("an address differs by process", "compare with ==, or give the thing a number of its own"),
    "hash": Advice("the hash of a str differs by process", "use hashlib, or zlib.crc32 of the encoded text"),
    "set-order": Advice("the order of a set of str differs by process", "iterate over sorted(...)"),
    "class-attribute": Advice(
        "it is shared by all objects of a process and is in no snapshot", "set it in __init__: self.x = ..."
    ),
    "global": Advice(
        "a module's variable is in no snapshot: it is lost with the process", "make it an attribute: self.x"
    ),
    "read-changes": Advice("a @read runs on one node only, so that one would differ", "mark the method @command"),
    "invariant-changes": Advice("an @invariant only looks", "change nothing there"),
    "default-argument": Advice(
        "a default is made once a process, and keeps what is put in", "use None, and make it inside"
    ),
    "closure": Advice(
        "a variable of the enclosing function is in no snapshot", "make it an attribute, or a constant of the module"
    ),
    "async": Advice("a marked method runs at once, in the order of the log", "use def"),
    "slots": Advice("a snapshot does not see slots", "leave __slots__ out"),
    "nan": Advice("NaN is not equal to itself, so states cannot be compared", "use None"),
}


def finding(node: ast.AST, rule: str, what: str) -> Finding:
    """At a node of the tree."""
    line: int = vars(node)["lineno"]
    column: int = vars(node)["col_offset"] + 1
    advice = ADVICE[rule]
    return Finding(line, column, rule, what, advice.why, advice.instead)
