"""`quorate sim ./file.py:Class`: a core that is in no registry, and what is wrong with a file or a class."""

from pathlib import Path

import msgspec
import pytest

from quorate.sim.shells import SNAPSHOTS
from quorate.trials import campaign
from quorate.trials.campaign import Task
from quorate.trials.protocols import equipment_of, mutants_of

from tests.cli.sim_command import call

GOOD = """
from neighbour import CONFIG
from quorate.protocols.echo import Echo

class Mine(Echo):
    def __init__(self, env):
        super().__init__(env, CONFIG)

class Needy(Echo):
    def __init__(self, env, config):
        super().__init__(env, config)

class Cruel(Echo):
    def on_forward(self, sender, message):
        raise RuntimeError("no")

class Plain:
    pass
"""
NEIGHBOUR = """
from quorate.protocols.echo_equipment import EQUIPMENT

CONFIG = EQUIPMENT.simulation
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text(NEIGHBOUR)
    (tmp_path / "mine.py").write_text(GOOD)
    return tmp_path / "mine.py"


def test_it_runs_like_one_of_the_registry(mine: Path) -> None:
    short = ("--seed", "1", "--duration-s", "2", "--json")
    code, out, _ = call(f"{mine}:Mine", *short)
    found, echo = msgspec.json.decode(out), msgspec.json.decode(call("echo", *short)[1])
    assert code == 0
    assert found["digest"] == echo["digest"], "the same core with the same config does the same"


def test_other_processes_load_the_file_again(mine: Path) -> None:
    tasks = [Task(protocol=f"{mine}:Mine", seed=seed, duration_s=1.0) for seed in range(4)]
    assert list(campaign.run_all(tasks, 2)) == list(campaign.run_all(tasks, 1))


def test_a_violation_is_traced_under_the_name_of_the_class(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mine.parent)
    code, out, _ = call(f"{mine}:Cruel", "--seed", "0", "--faults", "none")
    assert code == 1
    assert "RuntimeError: no (on_forward, mine.py:" in out
    assert (mine.parent / "sim-Cruel-0.trace").exists()
    assert f"repeat: quorate sim {mine}:Cruel --seed 0 " in out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.py:Mine", "there is no file"),
        ("mine.py", "write {file}:Class; it has Mine, Needy, Cruel"),
        ("mine.py:", "write {file}:Class; it has Mine, Needy, Cruel"),
        ("mine.py:Yours", "has no class 'Yours'; write {file}:Class; it has Mine, Needy, Cruel"),
        ("mine.py:Plain", "Plain in {file} is not a Core; write class Plain(Core)"),
        ("mine.py:Needy", "cannot be made from an Env alone: missing a required argument: 'config'"),
        ("text.txt:Mine", "its name has to end with .py"),
        ("syntax.py:Mine", "cannot be loaded: SyntaxError"),
        ("raises.py:Mine", "cannot be loaded: ZeroDivisionError: division by zero (line 2)"),
        ("exits.py:Mine", "cannot be loaded: SystemExit: 3 (line 1)"),
        ("handler.py:Mine", "cannot be loaded: TypeError: Mine has no handler on_hello; write one a message type"),
        ("empty.py:Mine", "it has no Core at all"),
        ("starts.py:Mine", 'put what runs under `if __name__ == "__main__":` (line 2)'),
    ],
)
def test_wrong_use(mine: Path, name: str, words: str) -> None:
    (mine.parent / "text.txt").write_text("")
    (mine.parent / "empty.py").write_text("")
    (mine.parent / "syntax.py").write_text("class")
    (mine.parent / "raises.py").write_text("\n1 / 0\n")
    (mine.parent / "starts.py").write_text("from quorate import Client\nClient()\n")
    (mine.parent / "exits.py").write_text("raise SystemExit(3)\n")
    (mine.parent / "handler.py").write_text(
        "from quorate.kernel import Core\nclass Hello: pass\nclass Mine(Core):\n    messages = (Hello,)\n"
    )
    code, _, err = call(str(mine.parent / name))
    assert code == 2
    assert words.format(file=mine) in err


LYING = """
from quorate.kernel import Core
from quorate.protocols.echo import Echo, EchoConfig
from quorate.protocols.raft import Raft, RaftConfig
from quorate.protocols.traits import SIGNED_BYZANTINE, Belief, Fault, FaultModel, Signers, Traits, Value
from quorate.protocols.vote import Vote, VoteConfig
from quorate.protocols.vote_equipment import MUTANTS, VoteInvariants, resign_votes as resign
from quorate.sim.adversary.liar import Liar

TRAITS = SIGNED_BYZANTINE
SIMULATION = VoteConfig(batch_count_max=8, batch_bytes_max=4096, pending_max=256)
INVARIANTS = (VoteInvariants,)

class Mine(Vote):
    pass

class Keyless(Vote):
    def __init__(self, env, config=None):
        pass

class Odd(Vote):
    traits = "lies"

class Raw(Vote):
    traits = Traits(fault_model=FaultModel(Fault.BYZANTINE), belief=Belief.VOTES, value=Value.RAW_TRANSACTIONS)

class Mute(Liar):
    def tell(self, send):
        self.means.count(self.name)
        return ()

class Slips(Liar):
    def tell(self, send):
        return self.nothing

class Forgets(Liar):
    def tell(self, send):
        pass

class Silent(Liar):
    name = "silent"

class Invents(Liar):
    name = "invents"
    def tell(self, send):
        self.means.count(self.name)
        return (send,)
"""


@pytest.fixture
def lying(tmp_path: Path) -> Path:
    (tmp_path / "lying.py").write_text(LYING)
    return tmp_path / "lying.py"


SHORT = ("--nodes", "4", "--byzantine", "1", "--duration-s", "2", "--json")


def test_a_core_that_claims_to_tolerate_lies_runs_like_one_of_the_registry(lying: Path) -> None:
    """Config, keys, clients and signatures of lies are the same, and so are the faults that both are tested with."""
    task = Task(
        protocol="vote", seed=3, nodes=4, faults="common", byzantine=1, adversary="equivocating", duration_s=2.0
    )
    mine = campaign.run_task(msgspec.structs.replace(task, protocol=f"{lying}:Mine"))
    assert mine == campaign.run_task(task)
    assert mine.answered > 10
    assert mine.lies["equivocating"] > 0


def test_liars_in_a_file_are_mixed_with_those_that_are_built_in(lying: Path) -> None:
    _, out, err = call("vote", "--seed", "1", "--adversary", f"{lying}:Mute,{lying}:Invents", *SHORT)
    assert set(msgspec.json.decode(out)["lies"]) <= {"mute", "invents"}
    _, out, _ = call("vote", "--seeds", "0:4", "--adversary", f"{lying}:Mute,slow", *SHORT)
    assert set(msgspec.json.decode(out)["lies"]) == {"mute", "slow"}
    _, out, _ = call("vote", "--seeds", "0:6", "--adversary", f"all,{lying}:Mute", *SHORT)
    assert set(msgspec.json.decode(out)["lies"]) > {"mute", "slow"}
    _, _, err = call("raft", "--seed", "0", "--adversary", f"{lying}:Mute", *SHORT)
    assert "raft does not claim to tolerate mute: expect violations" in err


@pytest.mark.parametrize(
    ("liar", "words"),
    [
        ("Slips", "the liar slips raised AttributeError: 'Slips' object has no attribute 'nothing' (tell, lying.py:"),
        ("Forgets", "the liar forgets raised TypeError: 'NoneType' object is not iterable"),
    ],
)
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_liar_in_a_file_that_raises_ends_the_campaign(lying: Path, liar: str, words: str, jobs: str) -> None:
    """It would look as if the protocol withstood it."""
    code, _, err = call("vote", "--seeds", "0:40", "--jobs", jobs, "--adversary", f"{lying}:{liar}", *SHORT)
    assert code == 2
    assert words in err


def test_a_violation_by_a_liar_in_a_file_can_be_repeated(lying: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lying.parent)
    liar = ("--byzantine", "2", "--adversary", f"{lying}:Mute")
    code, out, _ = call("vote", "--seeds", "0:9", "--nodes", "4", "--faults", "none", *liar)
    assert code == 1, "two of four that say nothing stop it"
    assert "liveness" in out
    assert f"--byzantine 2 --adversary {lying}:Mute --trace -" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lying.py:Keyless"], "cannot be made from an Env, SIMULATION and keys alone"),
        (["lying.py:Odd"], "traits of Odd in {file} is not Traits"),
        (["lying.py:Raw"], "there are no clients for RAW_TRANSACTIONS with VOTES"),
        (["lying.py:Mine", "--adversary", "lying.py:Mine"], "Mine in {file} is not a Liar"),
        (["lying.py:Mine", "--adversary", "lying.py:Silent"], "is called 'silent', as a built-in liar is"),
        (["lying.py:Mine", "--adversary", "none.py:Silent"], "there is no file"),
        (
            ["lying.py:Mine", "--adversary", "lying.py"],
            "write {file}:Class; it has Mute, Slips, Forgets, Silent, Invents",
        ),
        (["lying.py:Mine", "--adversary", "mean"], "no adversary is called mean"),
    ],
)
def test_wrong_use_where_nodes_lie(lying: Path, arguments: list[str], words: str) -> None:
    paths = [a if not a.count(".py") else str(lying.parent / a) for a in arguments]
    code, _, err = call(*paths, "--byzantine", "1", "--nodes", "4", "--seed", "0")
    assert code == 2, err
    assert words.format(file=lying) in err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("TRAITS = 3", "TRAITS in {file} is not a Traits"),
        ("SIMULATION = 3", "SIMULATION in {file} is not a Struct"),
        ("ONE_BY_ONE = 3", "ONE_BY_ONE in {file} is not a VoteConfig"),
        ("TAKES_SNAPSHOTS = 3", "TAKES_SNAPSHOTS in {file} is not a bool"),
        ("INVARIANTS = (3,)", "INVARIANTS in {file} is not a tuple of subclasses of Checker"),
        ("MUTANTS = 3", "MUTANTS in {file} is not a tuple"),
        ("LIARS = ('x',)", "LIARS in {file} is not a tuple of subclasses of Liar"),
    ],
)
def test_what_is_beside_it_is_looked_at(lying: Path, line: str, words: str) -> None:
    lying.write_text(LYING + line)
    code, _, err = call(f"{lying}:Mine", "--seed", "0")
    assert code == 2
    assert words.format(file=lying) in err


def test_a_core_says_of_itself_that_it_takes_snapshots(lying: Path) -> None:
    takes = lying.parent / "takes.py"
    takes.write_text(LYING + "ONE_BY_ONE = VoteConfig(batch_count_max=1)\nTAKES_SNAPSHOTS = True\n")
    some, more = ({mutant.name for mutant in mutants_of(f"{path}:Mine")} for path in (lying, takes))
    assert more - some >= {mutant.name for mutant in SNAPSHOTS}
    assert equipment_of(f"{takes}:Mine").one_by_one.batch_count_max == 1


def test_mutants_beside_a_core_are_planted(lying: Path) -> None:
    task = Task(protocol=f"{lying}:Mine", seed=0, nodes=4, mutant="forgets-prevotes")
    assert any(not campaign.run_task(msgspec.structs.replace(task, seed=seed)).holds for seed in range(10))


def test_its_mutants_are_those_of_the_shell(mine: Path) -> None:
    code, _, err = call(f"{mine}:Mine", "--mutant", "x")
    assert code == 2
    assert "has no mutant 'x'; it has no-barrier, barrier-out-of-order, empty-checkpoint" in err
