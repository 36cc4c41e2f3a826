"""What control over a replicated object's state costs: commands a second beside an unchecked machine, and pauses.

    PYTHONPATH=src:. python bench/objects_apply.py [--rounds 7] [--commands 20000] [--entries 100000]

Three measurements in this process. A command's cost beside `Unchecked`, which decodes, calls and encodes and checks
nothing, in alternating rounds; digests are taken every 1,000 commands, as the log asks. A command that sets one entry
of a dict of 10,000 and of 1,000,000. The longest time between two steps of a busy thread while another writes a
snapshot, one command applied at each step.
"""

from __future__ import annotations

import argparse
import gc
import io
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from quorate.machines.objects.calls import encode_call
from quorate.machines.objects.machine import ObjectMachine, Replicated, command

DIGEST_EVERY = 1000


class Table(Replicated):
    """A counter, and a dict."""

    def __init__(self) -> None:
        self.value = 0
        self.rows: dict[Any, Any] = {}

    @command
    def add(self, amount: int = 1) -> int:
        """Count."""
        self.value += amount
        return self.value

    @command
    def put(self, key: int, value: int) -> None:
        """Set one entry."""
        self.rows[key] = value

    @command
    def fill(self, first: int, last: int) -> None:
        """Set many entries."""
        for key in range(first, last):
            self.rows[key] = key

    @command
    def users(self, first: int, last: int) -> None:
        """Set many entries of nested containers."""
        for n in range(first, last):
            self.rows[f"key{n}"] = {"n": n, "name": f"user {n}", "tags": ["a", "b"]}

    @command
    def touch(self, n: int) -> int:
        """Change a nested entry."""
        row = self.rows[f"key{n}"]
        row["n"] += 1
        return int(row["n"])


class Call(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """As the log has it."""

    method: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    version: int = 1
    seed: bytes = b""
    stamp: int = 0


class Result(msgspec.Struct, frozen=True, array_like=True, tag="ok"):
    """As the log had it."""

    value: Any


class Unchecked:
    """Decode, call, encode: the state is whatever the commands make of it."""

    def __init__(self, kind: type[Replicated], allowed: frozenset[str]) -> None:
        self.instance = kind()
        self._allowed = allowed
        self._decode = msgspec.msgpack.Decoder(Call).decode
        self._encode = msgspec.msgpack.Encoder().encode

    def apply(self, data: bytes) -> bytes:
        """Apply one call."""
        call = self._decode(data)  # one that it could not decode would cost it nothing
        try:
            if _is_deeper(call.args, 64) or _is_deeper(call.kwargs, 64):
                raise ValueError("deep")
            if call.method not in self._allowed:
                raise AttributeError(call.method)
            return self._encode(Result(getattr(self.instance, call.method)(*call.args, **call.kwargs)))
        except Exception as error:
            return self._encode(["raised", type(error).__name__, str(error)])


def _is_deeper(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_is_deeper(k, levels - 1) or _is_deeper(v, levels - 1) for k, v in value.items())
    if isinstance(value, list | tuple):
        return levels == 0 or any(_is_deeper(item, levels - 1) for item in value)
    return False


def seconds(apply: Callable[[bytes], bytes], commands: Sequence[bytes], digest: Callable[[], object] | None) -> float:
    """How long the commands take, with a digest every DIGEST_EVERY."""
    gc.collect()
    started = time.perf_counter()
    for first in range(0, len(commands), DIGEST_EVERY):
        for data in commands[first : first + DIGEST_EVERY]:
            apply(data)
        if digest is not None:
            digest()
    return time.perf_counter() - started


def ratio(name: str, commands: Sequence[bytes], size: int, rounds: int) -> None:
    """Compare the two machines on the same commands, in alternation; print the median ratio of speeds."""
    machine = ObjectMachine(Table)
    unchecked = Unchecked(Table, frozenset({"add", "put", "fill"}))
    for first in range(0, size, 10_000):
        data = encode_call("fill", [first, min(first + 10_000, size)])
        machine.apply(data)
        unchecked.apply(data)
    machine.digests()
    pairs = [
        (seconds(unchecked.apply, commands, None), seconds(machine.apply, commands, machine.digests))
        for _ in range(rounds)
    ]
    plain, ours = (1e6 * statistics.median(times) / len(commands) for times in zip(*pairs, strict=True))
    speed = statistics.median(before / after for before, after in pairs)
    print(f"{name:32} unchecked {plain:6.2f} us, ours {ours:6.2f} us a command: {speed:.2f} of the rate")


def sizes(commands: int, rounds: int) -> None:
    """One entry of 10,000 and of 1,000,000, in alternation."""
    rng = random.Random(1)
    small, large = 10_000, 1_000_000
    machines = {}
    for size in (small, large):
        machines[size] = machine = ObjectMachine(Table)
        for first in range(0, size, 10_000):
            machine.apply(encode_call("fill", [first, first + 10_000]))
        machine.digests()
    # The same keys in both: how the processor's cache takes a large dict is another question.
    data = [encode_call("put", [rng.randrange(small), n]) for n in range(commands)]
    spread = [encode_call("put", [rng.randrange(large), n]) for n in range(commands)]
    times: dict[Any, list[float]] = {small: [], large: [], "spread": []}
    for _ in range(rounds):
        for size in (small, large):
            times[size].append(seconds(machines[size].apply, data, machines[size].digests))
        times["spread"].append(seconds(machines[large].apply, spread, machines[large].digests))
    each = {size: 1e6 * statistics.median(found) / commands for size, found in times.items()}
    print(
        f"one entry: {each[small]:.2f} us of {small}, {each[large]:.2f} us of {large} "
        f"({each[large] / each[small] - 1:+.0%}); keys spread over all {large}: {each['spread']:.2f} us"
    )


def pauses(entries: int) -> None:
    """The longest time between two commands while a snapshot is written."""
    machine = ObjectMachine(Table)
    for first in range(0, entries, 5000):
        machine.apply(encode_call("users", [first, first + 5000]))
    machine.digests()
    touch = [encode_call("touch", [n * 7919 % entries]) for n in range(1000)]
    gc.collect()
    gc.freeze()
    quiet = _longest(machine, touch, lambda: False, 3000)
    started = time.perf_counter()
    write = machine.snapshot()
    captured = time.perf_counter() - started
    file = io.BytesIO()
    thread = threading.Thread(target=write, args=(file,))
    thread.start()
    busy = _longest(machine, touch, lambda: not thread.is_alive(), 1 << 60)
    thread.join()
    print(
        f"snapshot of {entries} entries, {file.tell() / 1e6:.1f} MB, in {time.perf_counter() - started:.1f} s: "
        f"capture {1e3 * captured:.1f} ms, longest pause {1e3 * busy:.1f} ms (without a snapshot {1e3 * quiet:.1f} ms)"
    )
    file.seek(0)
    started = time.perf_counter()
    machine.restore(file)
    print(f"restored in {time.perf_counter() - started:.1f} s")


def _longest(machine: ObjectMachine, commands: Sequence[bytes], is_over: Callable[[], bool], steps: int) -> float:
    longest, before, step = 0.0, time.perf_counter(), 0
    while not is_over() and step < steps:
        machine.apply(commands[step % len(commands)])
        step += 1
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
        time.sleep(0.0005)  # as a loop waits for its sockets
    return longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--commands", type=int, default=20_000)
    parser.add_argument("--entries", type=int, default=300_000)
    args = parser.parse_args()
    rng = random.Random(1)
    add = [encode_call("add", [n % 7]) for n in range(args.commands)]
    ratio("counter.add", add, 0, args.rounds)
    put = [encode_call("put", [rng.randrange(10_000), n]) for n in range(args.commands)]
    ratio("one entry of 10,000", put, 10_000, args.rounds)
    sizes(args.commands, args.rounds)
    pauses(args.entries)


if __name__ == "__main__":
    main()
