"""The registry imports a protocol when it is used, and production loads nothing that tests it."""

import subprocess
import sys
from pathlib import Path

import pytest

from quorate.parts.log import configuration
from quorate.protocols import REGISTRY
from quorate.protocols.entry import ProtocolEntry
from quorate.protocols.registry import HOMES, Registry
from quorate.protocols.traits import (
    CRASH,
    SIGNED_BYZANTINE,
    Belief,
    Fault,
    FaultModel,
    Members,
    Signers,
    Synchrony,
    Traits,
    Value,
)

from tests.tidy.tree import is_equipment_module

SRC = Path(__file__).resolve().parents[2] / "src"
FOLDERS = {home.split(".")[2] for home in HOMES.values()}
"""One a protocol, or a file."""


def imported(program: str) -> set[str]:
    """The modules of this package that a fresh interpreter imports for a program.

    ``-X importtime`` would show the same, but for what ``import_module`` is called with.
    """
    ran = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"],
        env={"PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name for name in ran.stdout.split() if name.partition(".")[0] == "quorate"}


def protocols(modules: set[str]) -> set[str]:
    """Which protocols some modules belong to."""
    return {name.split(".")[2] for name in modules if name.startswith("quorate.protocols.")} & FOLDERS


def equipment(modules: set[str]) -> list[str]:
    """Those that tests alone need."""
    return sorted(m for m in modules if is_equipment_module(m) or m.split(".")[1:2] in (["sim"], ["trials"]))


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_a_protocol_imports_no_other_and_nothing_that_tests_it(folder: str) -> None:
    modules = imported(f"import quorate.protocols.{folder}")
    assert protocols(modules) == {folder}
    assert equipment(modules) == []


def test_names_can_be_listed_without_an_import() -> None:
    program = "from quorate.protocols import REGISTRY; assert len(list(REGISTRY)) == len(REGISTRY); 'raft' in REGISTRY"
    assert protocols(imported(program)) == set()


def test_who_uses_one_protocol_imports_one() -> None:
    assert protocols(imported("from quorate.protocols import REGISTRY; REGISTRY['paxos']")) == {"paxos"}


def test_what_serves_imports_nothing_that_tests() -> None:
    modules = imported(
        "import quorate.service.server; from quorate.protocols import REGISTRY; [*REGISTRY.values()]; "
        "import quorate.cli.node, quorate.cli.up"
    )
    assert protocols(modules) == FOLDERS
    assert equipment(modules) == []


def test_that_these_tests_can_see_it() -> None:
    assert "quorate.protocols.raft.mutants" in equipment(imported("import quorate.protocols.raft.equipment"))


# --- a registry ---


def test_entries_are_made_once_and_others_can_be_added() -> None:
    registry = Registry({"raft": "quorate.protocols.raft.entry"})
    assert registry["raft"] is registry["raft"] is REGISTRY["raft"]
    registry["mine"] = REGISTRY["echo"]
    assert [*registry] == ["raft", "mine"]
    assert registry["mine"] is REGISTRY["echo"]
    del registry["mine"]
    assert "mine" not in registry
    with pytest.raises(KeyError):
        registry["mine"]
    assert registry.get("nobody") is None


def test_a_line_that_leads_to_another_protocol_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match=r"quorate\.protocols\.raft\.entry has the entry of raft, not of mine"):
        Registry({"mine": "quorate.protocols.raft.entry"})["mine"]


def test_nodes_that_have_keys_are_not_made_without() -> None:
    with pytest.raises(ValueError, match="the nodes of pbft need keys"):
        REGISTRY["pbft"].make(REGISTRY["pbft"].config())


# --- traits ---


@pytest.mark.parametrize(
    ("fault", "synchrony", "nodes", "faults"),
    [
        (Fault.CRASH, Synchrony.SYNCHRONOUS, 3, 2),
        (Fault.CRASH, Synchrony.PARTIAL, 4, 1),
        (Fault.CRASH, Synchrony.ASYNCHRONOUS, 5, 2),
        (Fault.BYZANTINE, Synchrony.SYNCHRONOUS, 5, 2),
        (Fault.BYZANTINE, Synchrony.PARTIAL, 6, 1),
        (Fault.BYZANTINE, Synchrony.ASYNCHRONOUS, 7, 2),
    ],
)
def test_how_many_faults_follows_from_the_model(fault: Fault, synchrony: Synchrony, nodes: int, faults: int) -> None:
    model = FaultModel(fault, synchrony)
    assert model.faults(nodes) == faults
    assert model.nodes(faults) <= nodes < model.nodes(faults + 1)
    assert model.faults(model.nodes(faults) - 1) == faults - 1


def test_liars_are_tolerated_where_nodes_may_lie() -> None:
    assert (CRASH.faults(7), CRASH.liars(7), CRASH.has_keys) == (3, 0, False)
    assert (SIGNED_BYZANTINE.faults(7), SIGNED_BYZANTINE.liars(7), SIGNED_BYZANTINE.has_keys) == (2, 2, True)
    assert Traits(signers=Signers(clients=True)).has_keys


@pytest.mark.parametrize(
    ("traits", "words"),
    [
        ({"fault_model": FaultModel(Fault.BYZANTINE)}, "belief must be VOTES"),
        ({"value": Value.SIGNED_REQUESTS}, "signers must name them"),
        ({"members": Members(configuration.encode_change, by_admin=True)}, "signers must name clients"),
    ],
)
def test_traits_do_not_contradict_each_other(traits: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Traits(**traits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "byzantine", "keys", "belief", "value", "changes", "by_admin"),
    [
        ("raft", False, False, Belief.LEADER, Value.OPAQUE, True, False),
        ("multipaxos", False, False, Belief.LEADER, Value.OPAQUE, True, False),
        ("paxos", False, False, Belief.LEADER, Value.OPAQUE, False, False),
        ("echo", False, False, Belief.LEADER, Value.OPAQUE, False, False),
        ("pbft", True, True, Belief.VOTES, Value.SIGNED_REQUESTS, True, True),
        ("tendermint", True, True, Belief.VOTES, Value.SIGNED_REQUESTS, False, False),
        ("vote", True, True, Belief.VOTES, Value.SIGNED_REQUESTS, False, False),
    ],
)
def test_what_the_protocols_are(
    name: str, byzantine: bool, keys: bool, belief: Belief, value: Value, changes: bool, by_admin: bool
) -> None:
    entry: ProtocolEntry = REGISTRY[name]
    traits = entry.traits
    assert (traits.is_byzantine, traits.has_keys, traits.belief, traits.value) == (byzantine, keys, belief, value)
    assert (traits.members.can_change, traits.members.by_admin) == (changes, by_admin)
    assert entry.faults(7) == (2 if byzantine else 3)
