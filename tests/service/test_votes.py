"""Votes: enough equal answers decide, and nothing less; a node has one vote."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.parts.quorum import Byzantine
from quorate.service.client.votes import Votes, for_command, for_read, outcome_of
from quorate.service.requests import Code, Failure, Result

outcomes = st.sampled_from([b"a", b"b", b"no_session", Code.NO_SESSION, Code.MALFORMED, None])


def test_f_plus_one_equal_answers_make_a_result_and_two_f_plus_one_a_read() -> None:
    assert [(for_command(f), for_read(3 * f + 1, f, f)) for f in range(4)] == [(1, 1), (2, 3), (3, 5), (4, 7)]


@given(st.integers(1, 63), st.data())
def test_answers_to_a_read_have_an_honest_node_in_common_with_every_quorum(nodes: int, data: st.DataObject) -> None:
    liars = (nodes - 1) // 3
    faults = data.draw(st.integers(0, liars))
    needed, quorum = for_read(nodes, liars, faults), Byzantine(range(nodes), liars).size
    assert needed + quorum - nodes > faults, "they overlap in more than the liars"
    assert needed + quorum - nodes == faults + 1 or needed == 2 * faults + 1, "and no more is asked for than it takes"
    assert needed <= nodes - liars or faults > liars, "so that the honest ones alone can answer"


@pytest.mark.parametrize(("nodes", "needed"), [(1, 1), (2, 1), (3, 2), (4, 3), (5, 3), (6, 4), (7, 5)])
def test_reads_of_clusters_that_have_more_nodes_than_their_liars_take(nodes: int, needed: int) -> None:
    assert for_read(nodes, (nodes - 1) // 3, (nodes - 1) // 3) == needed


def test_a_node_counts_once_however_often_it_says_the_same() -> None:
    votes = Votes(2, 4)
    assert [votes.add(1, b"a"), votes.add(1, b"a"), votes.add(3, b"b"), votes.add(2, b"a")] == [
        False,
        False,
        False,
        True,
    ]


def test_the_newest_word_of_a_node_is_its_vote() -> None:
    votes = Votes(2, 4)
    votes.add(1, b"a")
    votes.add(1, b"b")
    assert not votes.add(2, b"a")
    assert votes.add(3, b"b")


def test_a_code_is_not_the_bytes_that_spell_it() -> None:
    votes = Votes(2, 4)
    votes.add(1, Code.NO_SESSION)
    assert not votes.add(2, Code.NO_SESSION.value.encode())
    assert votes.add(3, Code.NO_SESSION)


def test_no_answer_decides_nothing_but_is_not_waited_for() -> None:
    votes = Votes(3, 4)
    assert not votes.add(0, None)
    assert not votes.has(0)
    assert not votes.is_split
    assert not votes.add(1, None)
    assert votes.is_split
    assert not any(votes.add(node, None) for node in range(4))


def test_a_vote_is_split_as_soon_as_nothing_can_win() -> None:
    votes = Votes(3, 4)
    assert not votes.is_split
    votes.add(0, b"a")
    votes.add(1, b"b")
    assert not votes.is_split
    votes.add(2, b"c")
    assert votes.is_split
    assert Votes(3, 2).is_split


@given(st.lists(st.tuples(st.integers(0, 6), outcomes), max_size=30), st.integers(1, 7))
def test_it_decides_exactly_when_so_many_nodes_say_the_same(cast: list[tuple[int, object]], needed: int) -> None:
    votes = Votes(needed, 7)
    said: dict[int, object] = {}
    for node, outcome in cast:
        said[node] = outcome
        same = [n for n, other in said.items() if type(other) is type(outcome) and other == outcome]
        assert votes.add(node, outcome) == (outcome is not None and len(same) >= needed)
        best = max((list(said.values()).count(o) for o in said.values() if o is not None), default=0)
        assert votes.is_split == (best + 7 - len(said) < needed)


@pytest.mark.parametrize("code", list(Code))
def test_only_what_follows_from_the_log_is_a_vote(code: Code) -> None:
    follows = code in (Code.NO_SESSION, Code.MALFORMED, Code.TOO_LARGE)
    assert outcome_of(Failure(1, code, "why")) == (code if follows else None)
    assert outcome_of(Result(1, b"data")) == b"data"
