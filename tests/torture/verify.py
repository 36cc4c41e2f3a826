"""What must hold when the torture is over: equal replicas, and a history that one machine alone could have given."""

from __future__ import annotations

from quorate.machines.kv import commands as kv
from quorate.sim.checkers import linearizability, report
from quorate.sim.checkers.models import KeyValue

from tests.cli.command import quorate
from tests.cluster import LocalCluster, until
from tests.torture.history import Recorder
from tests.torture.traffic import PROGRESS_TIMEOUT_S

SETTLE_TIMEOUT_S = 120.0
"""States of hundreds of megabytes are read, several times, while the machine may have other things to do."""


def check_history(recorder: Recorder) -> None:
    """Linearizable, by the checker here and by `quorate check` of the file."""
    verdict = linearizability.check_linearizable(recorder.events, KeyValue())
    assert verdict.linearizable is True, report.text(verdict)
    outcome = quorate("check", "--model", "kv", str(recorder.path))
    assert outcome.code == 0, outcome.stdout.decode() + outcome.stderr


def digest_of(cluster: LocalCluster, node: int) -> kv.DigestResult:
    """The hash of the state that one node holds, however old. A node that holds much reads for seconds."""
    with cluster.client(node, faults=0, timeout_s=PROGRESS_TIMEOUT_S) as client:
        result = kv.decode_result(client.query(kv.encode(kv.Digest()), serializable=True))
    assert isinstance(result, kv.DigestResult), result
    return result


def applied_indexes(cluster: LocalCluster) -> list[int]:
    """Of all nodes but those that were killed, by id. Empty while not all answer."""
    statuses = cluster.statuses()
    return (
        [statuses[node].applied_index for node in sorted(statuses)] if len(statuses) == len(cluster.processes) else []
    )


def check_replicas(cluster: LocalCluster, *down: int) -> kv.DigestResult:
    """Once all have applied the same, all hold the same; what they hold. No client may write meanwhile.

    ``down``: nodes that were killed and are left out.
    """
    assert sorted(cluster.processes) == [node for node in cluster.ids if node not in down]

    def settled() -> list[kv.DigestResult] | None:
        before = applied_indexes(cluster)
        if len(set(before)) != 1:
            return None
        digests = [digest_of(cluster, node) for node in sorted(cluster.processes)]
        # A session's end or a leader's first entry may still come in between.
        return digests if applied_indexes(cluster) == before else None

    digests = until(settled, f"all nodes applied the same; logs in {cluster.folder}", SETTLE_TIMEOUT_S)
    assert all(digest == digests[0] for digest in digests), digests
    return digests[0]
