"""A crash at every step: after each system call, with all that a power cut may leave (see LossyDisk)."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorate.runtime.journal import checkpoint, journal
from quorate.runtime.journal.segment import FRAME_HEADER_SIZE

from tests.storage.helpers import (
    LossyDisk,
    Recorder,
    State,
    durable_now,
    frame_offsets,
    read_state,
    recovered,
    segments,
    write_state,
)

Lossy = Callable[..., LossyDisk]


def run_history(folder: Path, lossy: Lossy) -> tuple[list[tuple[int, list[State]]], list[list[bytes]]]:
    """Appends, rotations and checkpoints under watch.

    Returns the crash points (how many frames were reported durable, the states a crash there can leave) and, for
    each sequence number, what a journal holds that ends there.
    """
    points: list[tuple[int, list[State]]] = []
    history: list[list[bytes]] = [[]]
    folder.mkdir()
    recorder = None

    def on_change(states: list[State]) -> None:
        points.append((recorder.durable[-1] if recorder and recorder.durable else 0, states))

    lossy(folder, on_change)
    recorder = Recorder(folder, segment_size_bytes=600)
    for step in range(12):
        if step in (5, 9):
            # Number by number: the checkpoint itself changes nothing until it is there as a whole.
            frames = [b"state %d.%d" % (step, part) * 9 for part in range(3)]
            history += [history[-1]] * len(frames) + [frames]
            recorder.checkpoint(*frames)
        else:
            group = [b"%d.%d " % (step, part) * 20 for part in range(3)]
            for frame in [b"the write before", *group]:
                history.append([*history[-1], frame])
            recorder.append_as_one_write(*group)
    recorder.journal.close()
    return points, history


def unseen(states: list[State], durable: int, seen: set[tuple[object, ...]]) -> Iterator[tuple[int, State]]:
    """The states that were not tried yet with this much durable, each with its position."""
    for variant, state in enumerate(states):
        key = (durable, *sorted(state.items()))
        if key not in seen:
            seen.add(key)
            yield variant, state


def test_every_crash_leaves_what_was_reported(tmp_path: Path, lossy: Lossy, monkeypatch: pytest.MonkeyPatch) -> None:
    points, history = run_history(tmp_path / "journal", lossy)
    monkeypatch.undo()
    assert len(points) > 60
    seen: set[tuple[object, ...]] = set()
    for number, (durable, states) in enumerate(points):
        for variant, state in unseen(states, durable, seen):
            frames = recovered(write_state(tmp_path / f"{number}.{variant}", state))
            assert frames in history[durable:], f"crash point {number}, variant {variant}, {durable} durable: {frames}"


def test_frames_appended_beside_a_checkpoint_survive_every_crash(
    tmp_path: Path, lossy: Lossy, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "journal"
    old, state, after = ([b"%s %d" % (name, part) * 9 for part in range(6)] for name in (b"old", b"state", b"after"))
    points: list[tuple[int, list[State]]] = []
    folder.mkdir()
    recorder = Recorder(folder, segment_size_bytes=300)
    recorder.append(*old)
    lossy(folder, lambda states: points.append((recorder.durable[-1], states)), *durable_now(folder))
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", 1)
    monkeypatch.setattr(journal, "WRITE_SIZE_BYTES_MAX", 1)  # one frame a write, and a piece after each
    recorder.hold()
    old.append(b"the write before")
    first = recorder.journal.checkpoint(state) + 1
    for frame in after:
        recorder.journal.append(frame)
    recorder.go_on()
    recorder.settle()
    recorder.journal.close()
    monkeypatch.undo()
    seen: set[tuple[object, ...]] = set()
    found = {"before": set(), "since": set()}
    for number, (durable, states) in enumerate(points):
        for variant, crash in unseen(states, durable, seen):
            frames = recovered(write_state(tmp_path / f"{number}.{variant}", crash))
            begin, known = ("since", state) if frames[: len(state)] == state else ("before", old)
            rest = frames[len(known) :]
            assert frames[: len(known)] == known[: len(frames)]
            assert rest == after[: len(rest)]
            assert len(rest) >= durable - first + 1, f"crash point {number}, variant {variant}"
            found[begin].add(len(rest))
    assert len(found["before"]) >= 5, "what came meanwhile was durable before the checkpoint was"
    assert found["since"] == {len(after)}, "the checkpoint came last"


def test_what_recovery_returns_is_durable(tmp_path: Path, lossy: Lossy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process was killed, and its successor's recovery is followed by a power cut."""
    points, history = run_history(tmp_path / "journal", lossy)
    monkeypatch.undo()
    seen: set[tuple[object, ...]] = set()
    for number, (durable, states) in enumerate(points):
        killed, synced, contents = states[:3]
        folder = write_state(tmp_path / str(number), killed)
        during: list[list[State]] = []
        disk = lossy(folder, during.append, synced, contents)
        with Recorder(folder) as recorder:
            after = disk.synced()
        monkeypatch.undo()
        assert recovered(write_state(tmp_path / f"{number}.after", after)) == recorder.frames
        # Recovery itself can be cut short; nobody has seen its frames then, only what was reported before.
        for step, crash_states in enumerate(during):
            for variant, state in unseen(crash_states, durable, seen):
                frames = recovered(write_state(tmp_path / f"{number}.{step}.{variant}", state))
                assert frames in history[durable:]


def test_a_cut_is_durable_before_its_place_is_used_again(
    tmp_path: Path, lossy: Lossy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a new frame, a power cut, and the valid frames behind a torn one would come back behind the new one."""
    folder = tmp_path / "journal"
    with Recorder(folder) as recorder:
        recorder.append_as_one_write(b"torn", b"dead", b"dead too")
    (path,) = segments(folder)
    start, end = frame_offsets([b"the write before", b"torn"])[1:]
    data = path.read_bytes()
    path.write_bytes(data[:start] + bytes(end - start) + data[end:])
    state = read_state(folder)
    points: list[list[State]] = []
    lossy(folder, points.append, state.keys(), state)
    with Recorder(folder) as recorder:
        assert recorder.frames == [b"the write before"]
        recorder.append(b"new!")
    monkeypatch.undo()
    for number, states in enumerate(points):
        for variant, state in enumerate(states):
            frames = recovered(write_state(tmp_path / f"{number}.{variant}", state))
            assert frames in ([b"the write before"], [b"the write before", b"new!"])


@st.composite
def _histories(draw: st.DrawFn) -> list[tuple[str, list[bytes]]]:
    frame = st.binary(max_size=60) | st.integers(60, 3000).map(bytes)
    return draw(st.lists(st.tuples(st.sampled_from(["append", "group", "checkpoint", "reopen"]), st.lists(frame))))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(history=_histories(), last=st.lists(st.binary(max_size=100), min_size=1), seed=st.integers(0, 2**32))
def test_any_history_and_any_torn_end(
    tmp_path: Path, history: list[tuple[str, list[bytes]]], last: list[bytes], seed: int
) -> None:
    folder = Path(mkdtemp(dir=tmp_path))
    expected: list[bytes] = []
    recorder = Recorder(folder, segment_size_bytes=2000)
    for kind, frames in history:
        if kind == "append" and frames:
            recorder.append(*frames)
            expected += frames
        elif kind == "group" and frames:
            recorder.append_as_one_write(*frames)
            expected += [b"the write before", *frames]
        elif kind == "checkpoint":
            recorder.checkpoint(*frames)
            expected = list(frames)
        elif kind == "reopen":
            recorder.journal.close()
            recorder = Recorder(folder, segment_size_bytes=2000)
            assert recorder.frames == expected
    recorder.append(b"durable")
    recorder.journal.close()
    with Recorder(folder, segment_size_bytes=1 << 30) as recorder:  # the last write goes to the same segment
        recorder.append_as_one_write(*last)
    expected += [b"durable", b"the write before"]
    path = segments(folder)[-1]
    last_write_bytes = sum(FRAME_HEADER_SIZE + len(frame) for frame in last)
    _tear(path, path.stat().st_size - last_write_bytes, random.Random(seed))
    frames = recovered(folder)
    assert frames[: len(expected)] == expected
    assert [*expected, *last][: len(frames)] == frames
    assert recovered(folder) == frames
    assert read_state(folder).keys() == {path.name for path in [*segments(folder), folder / "journal.lock"]}


def _tear(path: Path, durable_size: int, rng: random.Random) -> None:
    """Leave a hole in what was not durable, and cut the file somewhere there."""
    data = path.read_bytes()
    size, start, end = sorted(rng.randint(durable_size, len(data)) for _ in range(3))
    if rng.random() < 0.5:
        size = len(data)
    path.write_bytes((data[:start] + bytes(end - start) + data[end:])[:size])
