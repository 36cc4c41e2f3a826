"""What one Put costs the key-value state machine, and where the time goes.

    PYTHONPATH=src python bench/kv_apply.py [--keys 100000] [--puts 50000] [--batch 100] [--dir PATH]

Random keys of 256 bytes, values of 1 KiB, in batches as a replica applies them; decoding the command and encoding
the result are included. First new keys, then overwrites of random old ones.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from quorate.machines.kv.commands import Put, PutResult, decode_command, encode
from quorate.machines.kv.machine import KvMachine


def apply_all(machine: KvMachine, commands: list[bytes], batch: int) -> tuple[float, float]:
    """Apply in batches; return microseconds a command: the mean, and the median batch."""
    times = []
    for i in range(0, len(commands), batch):
        started = time.perf_counter()
        machine.begin()
        for command in commands[i : i + batch]:
            machine.apply(command)
        machine.commit()
        times.append(time.perf_counter() - started)
    return 1e6 * sum(times) / len(commands), 1e6 * statistics.median(times) / batch


def each(function: Callable[[bytes], object], commands: list[bytes]) -> float:
    """Microseconds a call."""
    started = time.perf_counter()
    for command in commands:
        function(command)
    return 1e6 * (time.perf_counter() - started) / len(commands)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--puts", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--dir", type=Path, default=None)
    args = parser.parse_args()
    rng = random.Random(1)
    keys = [rng.randbytes(256) for _ in range(args.keys)]
    value = rng.randbytes(1024)
    with tempfile.TemporaryDirectory(dir=args.dir) as directory:
        machine = KvMachine.opened(Path(directory))
        inserts = [encode(Put(key, value)) for key in keys]
        mean, median = apply_all(machine, inserts, args.batch)
        print(f"insert     mean {mean:6.2f} us  median batch {median:6.2f} us a put, up to {args.keys} keys")
        puts = [encode(Put(rng.choice(keys), value)) for _ in range(args.puts)]
        mean, median = apply_all(machine, puts, args.batch)
        print(f"overwrite  mean {mean:6.2f} us  median batch {median:6.2f} us a put, at {args.keys} keys")

        sample = [encode(Put(rng.choice(keys), value)) for _ in range(min(20_000, args.puts))]
        decode = each(decode_command, sample)
        result = PutResult(machine.store.revision)
        encoded = each(lambda _: encode(result), sample)
        in_memory = flush = 0.0
        for i in range(0, len(sample), args.batch):
            started = time.perf_counter()
            machine.begin()
            for command in sample[i : i + args.batch]:
                machine.apply(command)
            between = time.perf_counter()
            machine.commit()
            in_memory += between - started
            flush += time.perf_counter() - between
        applied, flushed = 1e6 * in_memory / len(sample), 1e6 * flush / len(sample)
        print(
            f"of which   apply {applied:.2f} (decode {decode:.2f}, encode result {encoded:.2f}), commit {flushed:.2f}"
        )
        machine.close()


if __name__ == "__main__":
    main()
