"""The KV machine against the model, on random programs."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from quorate.machines.kv.commands import Compact, DeleteRange, Events, Put, Range, Txn
from quorate.machines.kv.machine import KvMachine

from tests.machines.kv_model import (
    DELETES,
    DUPLICATE,
    PUTS,
    RANGES,
    Model,
    Refused,
    apply,
    ask,
    digest,
    records_on_disk,
    snapshot_bytes,
    sweep,
    txns,
)


class KvAgainstModel(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.files = contextlib.ExitStack()
        self.directory = Path(self.files.enter_context(tempfile.TemporaryDirectory()))
        self.machine = KvMachine.opened(self.directory / "one")
        self.model = Model()

    def both(self, command: Any) -> None:
        result = apply(self.machine, command)
        if result == DUPLICATE:  # judged on its own in test_kv_txn
            return
        assert result == self.model.apply(command)

    @rule(command=PUTS)
    def put(self, command: Put) -> None:
        self.both(command)

    @rule(command=DELETES)
    def delete(self, command: DeleteRange) -> None:
        self.both(command)

    @rule(command=txns())
    def txn(self, command: Txn) -> None:
        self.both(command)

    @rule(commands=st.lists(st.one_of(PUTS, DELETES, txns()), min_size=2, max_size=6))
    def batch(self, commands: list[Any]) -> None:
        self.machine.begin()
        for command in commands:
            self.both(command)
        self.machine.commit()

    @precondition(lambda self: self.model.revision > 3)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        self.both(Compact(self.model.revision - data.draw(st.integers(-1, 5))))

    @rule()
    def sweep(self) -> None:
        sweep(self.machine)
        model = self.model
        kept = sum(kv.mod_revision >= model.compacted or model.at(kv.key, model.compacted) == kv for kv in model.log)
        assert records_on_disk(self.machine) == kept

    @rule(query=RANGES)
    def range(self, query: Range) -> None:
        try:
            expected: Any = self.model.range(query)
        except Refused as refused:
            expected = refused.args[0]
        assert ask(self.machine, query) == expected

    @rule(query=st.builds(Events, st.integers(1, 30), st.integers(-1, 5), st.booleans()))
    def events(self, query: Events) -> None:
        assert ask(self.machine, query) == self.model.events(query)

    @rule()
    def snapshot_and_restore(self) -> None:
        before = digest(self.machine)
        self.machine.restore(io.BytesIO(snapshot_bytes(self.machine)))()
        assert digest(self.machine) == before

    @invariant()
    def everything_is_there(self) -> None:
        expected = self.model.range(Range(b"\0", b"\0"))
        assert ask(self.machine, Range(b"\0", b"\0")) == expected
        assert ask(self.machine, Range(b"\0", b"\0", count_only=True)).count == expected.count

    def teardown(self) -> None:
        self.machine.close()
        self.files.close()


class KvAtLength(KvAgainstModel):
    """The same, in more examples."""


TestKvAgainstModel = KvAgainstModel.TestCase
TestKvAgainstModel.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestKvAtLength = pytest.mark.slow(KvAtLength.TestCase)
TestKvAtLength.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
