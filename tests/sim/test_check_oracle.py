"""Small generated histories, written as Jepsen writes them, and an oracle that tries every order in real time.

The oracle shares nothing with the checker: a value is its text, so that two are equal only if they are written alike,
and each model is stated again below. Values and clients of every kind are mixed, with decoration of wrong types.
"""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from quorate.sim.checkers.linearizability import check_linearizable
from quorate.sim.checkers.models import MODELS
from quorate.sim.history import read_history

VALUES = (
    *(
        "nil",
        "0",
        "1",
        "1.0",
        "1.0M",
        "1/2",
        "0.5",
        "true",
        "false",
        '"1"',
        '"a"',
        "\\a",
        ":a",
        "a",
        "#{1}",
        "#{1 true}",
    ),
    *("{1 :b}", "{1 :a, true :b}", "[1]", "[1.0]", "#t [1]", "[]"),
)
ITEMS = ('"a"', '"b"', "1", "true", "#{1 2}", ":a")
PROCESSES = ("0", "1", '"0"', '"c"', ":c", ":d")
NEMESIS = "{:type :info, :process :nemesis"
NOISE = (f"{NEMESIS}, :f nil, :time 0.5}}", f"{NEMESIS}, :index :x}}", "; a remark")
TRANSACTIONAL = ("list-append", "rw-register", "multi-register")


class Asked:
    """One operation: `value` is text, or the steps of a transaction; `end` is None if it may never have happened."""

    def __init__(self, f: str, value: Any) -> None:
        self.f = f
        self.value = value
        self.seen: Any = None
        self.begin = 0
        self.end: int | None = None


def text(value: Any) -> str:
    """What a history says for a value."""
    if isinstance(value, str):
        return value
    return "[" + " ".join(f"[:{kind} {key} {item}]" for kind, key, item in value) + "]"


def initial(model: str) -> Any:
    return {} if model in TRANSACTIONAL else "free" if model == "mutex" else "nil"


def appended(held: str, value: str) -> str:
    if held == "nil":
        return value if value[0] == '"' else f"[{value}]"
    if held[0] == value[0] == '"':
        return held[:-1] + value[1:]
    return f"{held[:-1]} {value}]" if held[0] == "[" else f"[{held} {value}]"


def outcome(model: str, state: Any, asked: Asked) -> tuple[bool, Any, Any]:
    """(can it happen?, the state after it, what it would see)."""
    f, value = asked.f, asked.value
    if f == "txn":
        held, seen = dict(state), []
        for kind, key, item in value:
            if kind == "r":
                item = held.get(key, "nil")
            elif kind == "w":
                held[key] = item
            else:
                before = held.get(key, "[]")
                held[key] = f"[{item}]" if before == "[]" else f"{before[:-1]} {item}]"
            seen.append([kind, key, item])
        return True, held, seen
    if f in ("read", "get"):
        return True, state, state
    if f in ("acquire", "release"):
        return state == ("free" if f == "acquire" else "held"), "held" if f == "acquire" else "free", "nil"
    if f == "cas":
        return state == value[0], value[1], f"[{value[0]} {value[1]}]"
    if f == "append":
        return True, appended(state, value), "nil"
    return True, "nil" if f == "delete" else value, "nil"


def explained(model: str, left: list[Asked], state: Any) -> bool:
    """Try every order of the operations left that respects real time."""
    ends = [asked.end for asked in left if asked.end is not None]
    if not ends:
        return True
    for i, asked in enumerate(left):
        if asked.begin > min(ends):
            continue
        possible, after, seen = outcome(model, state, asked)
        sees = asked.f in ("read", "get", "txn") and asked.end is not None
        if possible and (not sees or seen == asked.seen) and explained(model, left[:i] + left[i + 1 :], after):
            return True
    return False


def request(model: str, rng: Random, values: list[str]) -> Asked:
    value = rng.choice(values)
    if model in TRANSACTIONAL:
        write = "append" if model == "list-append" else "w"
        kinds = [rng.choice(("r", write)) for _ in range(rng.randrange(1, 4))]
        steps = [[kind, rng.choice((":x", "1")), "nil" if kind == "r" else rng.choice(values)] for kind in kinds]
        return Asked("txn", steps)
    if model == "mutex":
        return Asked(rng.choice(("acquire", "release")), "nil")
    if model == "kv":
        f = rng.choice(("get", "get", "put", "append", "append", "delete"))
    else:
        f = rng.choice(("read", "write", "cas") if model == "cas-register" else ("read", "write"))
    if f == "cas":
        return Asked(f, (value, rng.choice(values)))
    return Asked(f, value if f in ("put", "append", "write") else "nil")


def history(model: str, rng: Random) -> tuple[list[str], list[Asked]]:
    """Lines of a file, and the operations in it that may have happened."""
    written = ITEMS if model in ("kv", "list-append") else VALUES[1:] if "register" in model else VALUES
    values = rng.sample(written, rng.randrange(2, 4))
    asked = [request(model, rng, values) for _ in range(rng.randrange(2, 7))]
    state = initial(model)
    for one in rng.sample(asked, len(asked)):  # what a run in another order saw: often legal, often not
        possible, after, one.seen = outcome(model, state, one)
        state = after if possible else state
    odd = rng.choice(asked)
    if odd.f in ("read", "get") and rng.random() < 0.2:
        odd.seen = rng.choice(values)
    return list(_lines(model, rng, asked)), [one for one in asked if one.begin >= 0]


def _lines(model: str, rng: Random, asked: list[Asked]) -> Iterator[str]:
    """Invocations in the order of `asked`, each by a free client; one that failed gets `begin` -1."""
    free, running, waiting, moment = list(PROCESSES), [], list(asked), 0
    key = ":key :k, " if model == "kv" else ""
    while waiting or running:
        moment += 1
        if rng.random() < 0.1:
            yield rng.choice(NOISE)
        if waiting and free and (not running or rng.random() < 0.5):
            one, process = waiting.pop(0), free.pop(rng.randrange(len(free)))
            one.begin = moment
            value = f"[{' '.join(one.value)}]" if one.f == "cas" else text(one.value)
            yield f"{{:type :invoke, :process {process}, :f :{one.f}, {key}:value {value}}}"
            running.append((one, process))
            continue
        one, process = running.pop(rng.randrange(len(running)))
        kind = rng.choices(("ok", "info", "fail", "none"), (8, 1, 1, 1))[0]
        if kind == "fail":
            one.begin = -1
        if kind == "none":  # its client is never heard of again
            continue
        if kind == "ok":
            one.end = moment
        free.append(process)
        value = text(one.seen) if kind == "ok" else "nil"
        yield f"{{:type :{kind}, :process {process}, :f :{one.f}, {key}:value {value}, :time {rng.random()}}}"


def agrees(model: str, seed: int, path: Path) -> bool:
    """The oracle's answer, once the checker was seen to give the same."""
    rng = Random(f"{model} {seed}")
    lines, asked = history(model, rng)
    path.write_text("\n".join(lines), encoding="utf-8")
    expected = explained(model, asked, initial(model))
    found = check_linearizable(read_history(path), MODELS[model]())
    assert found.linearizable is expected, f"{model}, seed {seed}:\n" + "\n".join(lines)
    assert found.operations == len(asked)
    return expected


@pytest.mark.parametrize("model", sorted(MODELS))
def test_the_checker_agrees_with_the_oracle(model: str, tmp_path: Path) -> None:
    answers = [agrees(model, seed, tmp_path / "history.edn") for seed in range(150)]
    assert 15 < sum(answers) < 135, "both answers occur"


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(MODELS))
def test_ten_thousand_histories_agree_with_the_oracle(model: str, tmp_path: Path) -> None:
    for seed in range(1000, 1000 + 10_000 // len(MODELS) + 1):
        agrees(model, seed, tmp_path / "history.edn")
