"""`quorate sim`: what it prints, and its exit codes."""

from pathlib import Path

import msgspec
import pytest

from quorate.trials import campaign, quotas
from quorate.trials.campaign import Task
from quorate.trials.protocols import mutants_of

from tests.cli.sim_command import call


def test_all_holds() -> None:
    code, out, _ = call("raft", "--seeds", "0:3", "--duration-s", "2", "--jobs", "1")
    assert code == 0
    assert out.startswith("3 seeds, ")
    assert "messages/s" in out
    assert "every promise was kept" in out


def test_json() -> None:
    code, out, _ = call("raft", "--seed", "4", "--duration-s", "2", "--json")
    found = msgspec.json.decode(out)
    assert code == 0
    assert (found["protocol"], found["seeds"], found["violation"]) == ("raft", 1, None)
    assert found["messages"] > 0


def test_a_campaign_with_too_few_faults_fails_if_it_is_long_enough_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("raft", "--seeds", "0:2", "--duration-s", "0.5", "--jobs", "1", "--faults", "crash,snapshots")
    code, out, _ = call(*arguments)
    assert code == 0
    assert "\nof what was switched on: " in out
    assert " 0 transfers cut" in out
    monkeypatch.setattr(quotas, "SEEDS", 2)
    code, out, _ = call(*arguments)
    assert code == 3
    assert "every promise was kept" in out
    assert "NOT ENOUGH: too few faults to trust this: " in out
    assert "0 transfers cut (snapshots), " in out
    assert "it takes 50 of each. Run more or longer (--duration-s), or leave the kinds in brackets out" in out
    code, out, _ = call(*arguments, "--json")
    found = msgspec.json.decode(out)
    assert code == 3
    assert found["quotas"]["transfers cut"] == {"count": 0, "least": 50}
    assert found["too_few"].startswith("too few faults")


def test_the_digest_tells_runs_apart_and_equal_runs_not() -> None:
    digests = [
        msgspec.json.decode(call("raft", "--seed", seed, "--duration-s", "2", "--json")[1])["digest"]
        for seed in ("4", "4", "5")
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_violation_is_explained_and_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("raft", "--seeds", "0:40", "--mutant", "no-barrier", "--jobs", "1")
    assert code == 1
    assert "VIOLATED by seed " in out
    trace = next(line.split()[1] for line in out.splitlines() if line.startswith("trace:"))
    last = (tmp_path / trace).read_text(encoding="utf-8").splitlines()[-1]
    violated = next(line for line in out.splitlines() if "VIOLATED" in line).partition(": ")[2]
    assert violated in last, "the run that was traced is the run that failed"
    repeat = next(line for line in out.splitlines() if line.startswith("repeat:"))
    assert "--mutant no-barrier" in repeat


def test_lies_are_counted_and_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("raft", "--faults", "none", "--seeds", "0:8", "--byzantine", "1", "--jobs", "1")
    code, out, err = call(*arguments, "--adversary", "silent")
    assert code == 0
    assert "\nlies: " in out
    assert "note" not in err
    code, out, err = call(*arguments, "--adversary", "equivocating")
    assert code == 1
    assert "raft does not claim to tolerate equivocating: expect violations" in err
    assert "--byzantine 1 --adversary equivocating --trace -" in out
    _, _, err = call("raft", "--seed", "1", "--duration-s", "1", "--byzantine", "3", "--adversary", "silent", "--json")
    assert "raft tolerates 2 lying of 5 nodes, not 3" in err


def test_kinds_of_faults_that_do_not_happen_are_named() -> None:
    arguments = ("echo", "--seed", "1", "--duration-s", "1")
    code, _, err = call(*arguments, "--faults", "crash,bit-rot,gone")
    assert code == 0
    assert "note: echo is not tested with bit-rot, gone: no run has that" in err
    for faults in ("all", "crash,disks", "none"):
        assert "note" not in call(*arguments, "--faults", faults)[2]
    assert "note" not in call("raft", *arguments[1:], "--faults", "gone,bit-rot")[2]


def test_a_trace_to_a_file_and_to_the_screen(tmp_path: Path) -> None:
    code, _, _ = call("raft", "--seed", "1", "--duration-s", "2", "--trace", str(tmp_path / "t"))
    assert code == 0
    code, out, _ = call("raft", "--seed", "1", "--duration-s", "2", "--trace", "-")
    assert code == 0
    assert out == (tmp_path / "t").read_text(encoding="utf-8")
    assert out.splitlines()[-1].endswith("all holds")


def test_mutants_that_are_missed_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [mutant for mutant in mutants_of("raft") if mutant.name in ("no-barrier", "commits-old-term")]
    monkeypatch.setattr("quorate.cli.sim.mutants_of", lambda protocol, workload: tuple(chosen))
    code, out, _ = call("raft", "--mutants", "--seeds", "0:8", "--json", "--jobs", "1")
    found = msgspec.json.decode(out)
    assert code == 1
    assert found["missed"] == ["commits-old-term"]
    assert found["mutants"][0]["property"]
    monkeypatch.setattr("quorate.cli.sim.mutants_of", lambda protocol, workload: tuple(chosen[:1]))
    code, out, _ = call("raft", "--mutants", "--seeds", "0:8", "--jobs", "1")
    assert code == 0
    assert "no-barrier" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["paxoss"], "no protocol is called 'paxoss'; known are echo, multipaxos, paxos, pbft, raft, tendermint, vote"),
        (["raft", "--mutant", "x"], "raft has no mutant 'x'; it has no-barrier"),
        (["raft", "--faults", "fire"], "no fault is called fire"),
        (["raft", "--seeds", "9:1"], "write first:end"),
        (["raft", "--seeds", "x"], "is not a range of seeds"),
        (["raft", "--nodes", "0"], "0 nodes; a simulated cluster has 1 to 1024"),
        (["raft", "--nodes", "2000"], "2000 nodes; a simulated cluster has 1 to 1024"),
        (["raft", "--duration-s", "0"], "above 0"),
        (["raft", "--workload", "x"], "known are kv, register, mix, app"),
        (["raft", "--trace", "-"], "say which with --seed"),
        (["raft", "--mutants", "--mutant", "no-barrier"], "leave out --mutant"),
        (["raft", "--seed", "1", "--trace", "/no/such/folder/t"], "cannot write the trace"),
        (["raft", "--byzantine", "1"], "not lies; test it with --adversary silent,slow. To see it break, name another"),
        (["raft", "--byzantine", "1", "--adversary", "x"], "no adversary is called x; write all, none, or some of"),
        (["raft", "--byzantine", "5"], "at least one node must be honest"),
    ],
)
def test_wrong_use(arguments: list[str], words: str) -> None:
    code, _, err = call(*arguments)
    assert code == 2
    assert words in err


def test_several_processes_give_the_same_answers() -> None:
    tasks = [Task(protocol="raft", seed=seed, duration_s=1.0) for seed in range(4)]
    assert list(campaign.run_all(tasks, 2)) == list(campaign.run_all(tasks, 1))
