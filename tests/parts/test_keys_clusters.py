"""What is signed, or has a MAC, is for one cluster, and counts in no other that has the same keys."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.kernel import Job
from quorate.kernel.inputs import Done
from quorate.parts import requests
from quorate.parts.crypto.keys import CLUSTER_BYTES_MAX, Keys, Scheme, Symbolic, VerifyBatch
from quorate.parts.quorum import Byzantine
from quorate.parts.votes.certificate import Certificate, verify
from quorate.parts.votes.evidence import Said, conflict
from quorate.protocols.pbft import Pbft
from quorate.protocols.pbft.messages import PREPARE, order_statement
from quorate.runtime.keys import Ed25519

from tests.protocols.pbft.pbft_nodes import FOUR, SCHEME, Node, request

SCHEMES: dict[str, Scheme] = {"symbolic": Symbolic(FOUR, b"seed"), "ed25519": Ed25519(FOUR)}
schemes = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=list(SCHEMES))
names = st.sampled_from(["", "here", "there", "heres"])


def held(scheme: Scheme, node: int, cluster: str) -> Keys:
    """What a node holds in a cluster."""
    return scheme.keys(node).within(cluster)


@schemes
@settings(deadline=None)
@given(names, names)
def test_a_signature_counts_in_its_cluster_alone(scheme: Scheme, here: str, there: str) -> None:
    signature = held(scheme, 1, here).sign("vote", b"yes")
    assert held(scheme, 2, here).verify(1, "vote", b"yes", signature)
    assert held(scheme, 2, there).verify(1, "vote", b"yes", signature) == (here == there)


@schemes
@settings(deadline=None)
@given(names, names)
def test_a_mac_counts_in_its_cluster_alone(scheme: Scheme, here: str, there: str) -> None:
    [mac] = held(scheme, 1, here).macs("commit", b"digest", (2,))
    assert held(scheme, 2, here).verify_mac(1, "commit", b"digest", mac)
    assert held(scheme, 2, there).verify_mac(1, "commit", b"digest", mac) == (here == there)


@schemes
def test_a_client_s_request_counts_in_its_cluster_alone(scheme: Scheme) -> None:
    value = requests.sign(scheme.client(0).within("here"), [b"put"])
    assert requests.is_signed(value, scheme.keyring().within("here"))
    assert not requests.is_signed(value, scheme.keyring().within("there"))
    decoded = requests.decode_signed_request(value)
    assert decoded is not None
    batch = VerifyBatch((requests.claim(decoded),))
    assert scheme.keyring().within("here").verify_batch(batch).mask == 1
    assert scheme.keyring().within("there").verify_batch(batch).mask == 0


@schemes
def test_a_certificate_and_a_proof_of_two_statements_count_in_their_cluster_alone(scheme: Scheme) -> None:
    statement = order_statement(0, 1, bytes(32))
    votes = tuple((node, held(scheme, node, "here").sign(PREPARE, statement)) for node in FOUR[:3])
    certificate = Certificate(PREPARE, statement, votes)
    assert verify(certificate, scheme.keyring().within("here"), Byzantine(FOUR))
    assert not verify(certificate, scheme.keyring().within("there"), Byzantine(FOUR))
    both = [order_statement(0, 1, bytes([n]) * 32) for n in (1, 2)]
    proof = conflict(1, PREPARE, *[Said(said, held(scheme, 1, "here").sign(PREPARE, said)) for said in both])
    rules = {PREPARE: lambda first, second: first != second}
    assert proof.holds(held(scheme, 2, "here"), rules) is None
    assert proof.holds(held(scheme, 2, "there"), rules) == "the first signature is not the node's"


@schemes
def test_a_newcomer_s_key_is_for_the_same_cluster(scheme: Scheme) -> None:
    stranger = scheme.client(7).within("here")
    keys = held(scheme, 1, "here").knowing(9, stranger.public)
    assert keys.verify(9, "vote", b"yes", stranger.sign("vote", b"yes"))
    assert not keys.verify(9, "vote", b"yes", stranger.within("there").sign("vote", b"yes"))


def test_keys_for_two_clusters_do_not_go_together() -> None:
    scheme = SCHEMES["symbolic"]
    with pytest.raises(ValueError, match="a signer for 'here', and a keyring for 'there'"):
        Keys(scheme.signer(1).within("here"), scheme.keyring().within("there"))
    with pytest.raises(ValueError, match="has at most 1024 bytes"):
        scheme.signer(1).within("x" * (CLUSTER_BYTES_MAX + 1))


# --- PBFT of two clusters with the same keys ---


class Elsewhere(Node):
    """Node 2 of a cluster that has the keys of all others, in its core and for its jobs."""

    def __init__(self, cluster: str) -> None:
        self.keyring = SCHEME.keyring().within(cluster)
        super().__init__(make=lambda env, config, _: Pbft(env, config, held(SCHEME, env.id, cluster)))

    def _check(self, job: Job) -> Done:
        if not isinstance(job.work, VerifyBatch):
            return super()._check(job)
        return Done(job.key, self.keyring.verify_batch(job.work), job.path)


def taken_in(cluster: str) -> Node:
    """Node 2 of the cluster, after what the others of the cluster "" said of one batch, and a view-change."""
    node = Elsewhere(cluster)
    node.order(1, request("x"))
    node.change(1)
    return node


def test_what_was_said_in_one_cluster_moves_no_node_of_another() -> None:
    at_home, abroad = taken_in(""), taken_in("abroad")
    assert at_home.core.history.executed == 1
    assert at_home.core.view.number == 1
    assert abroad.core.history.executed == 0
    assert abroad.core.view.number == 0
