"""Members change through the order: who may ask for it, when it counts, and that an old change is not brought again."""

import msgspec
import pytest

from quorate.parts import requests
from quorate.parts.crypto.keys import Signer
from quorate.parts.log.configuration import Voters, encode_change
from quorate.parts.log.entries import COMMAND, CONFIGURATION

from tests.protocols.pbft.pbft_nodes import CONFIG, SCHEME, PbftCluster, X

ADMIN, OTHER = SCHEME.client(8), SCHEME.client(9)
FIVE = (1, 2, 3, 4, 5)


def change(*members: int, epoch: int | None = None, key: Signer = ADMIN) -> bytes:
    """A signed change of members."""
    return requests.sign(key, [encode_change(members, epoch)])


@pytest.fixture
def group() -> PbftCluster:
    return PbftCluster(5, config=msgspec.structs.replace(CONFIG, admins=(ADMIN.public,)))


def order(group: PbftCluster, value: bytes) -> list[int]:
    """Have a value decided by all that runs; the kinds of the entries that came of it."""
    known = set(group.decided)
    group.submit(1, value)
    group.run(5.0)
    return [entry.kind for index, entry in sorted(group.decided.items()) if index not in known]


def test_new_members_count_from_a_checkpoint_on(group: PbftCluster) -> None:
    assert group[1].core.in_force().voters == Voters(FIVE)
    assert order(group, change(1, 2, 3, 4, epoch=0)) == [CONFIGURATION]
    assert [member.core.in_force().voters for member in group.members.values()] == [Voters((1, 2, 3, 4), epoch=1)] * 5
    assert [member.core.standing().role for member in group.members.values()] == [
        *("primary", "backup", "backup", "backup", "learner")
    ]
    assert order(group, X) == [COMMAND]


def test_what_is_decided_and_does_not_count_yet_is_said(group: PbftCluster) -> None:
    group.submit(1, change(1, 2, 3, 4, epoch=0))
    group.loses = lambda flight: group[1].core.history.executed > 0  # no checkpoint is heard of
    group.calm()
    assert group[1].core.in_force().voters == Voters(FIVE, (1, 2, 3, 4), 0)


@pytest.mark.parametrize(
    "value",
    [
        change(1, 2, 3, 4, key=OTHER),
        change(1, 2, 3, 9),
        change(1, 2, 3, 4, epoch=1),
        requests.sign(ADMIN, [encode_change((1, 2, 3, 4)), b"more"]),
    ],
    ids=["not an administrator", "no such node", "another epoch", "not alone"],
)
def test_a_change_that_does_not_count_is_a_command_like_any_other(group: PbftCluster, value: bytes) -> None:
    assert order(group, value) == [COMMAND]
    assert group[1].core.in_force().voters == Voters(FIVE)


def test_a_liar_cannot_bring_a_change_again_that_was_undone(group: PbftCluster) -> None:
    """Whoever was removed has the signed change that made it a member."""
    old = change(1, 2, 3, 5, epoch=0)
    assert order(group, old) == [CONFIGURATION]
    assert order(group, change(1, 2, 3, 4, epoch=1)) == [CONFIGURATION]
    assert order(group, old) == [COMMAND]
    assert group[1].core.in_force().voters == Voters((1, 2, 3, 4), epoch=2)
