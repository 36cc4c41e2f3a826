"""What trials test a chain with ABCI apps with: the workload ``app`` of Tendermint."""

from quorate.protocols.tendermint.app_invariants import AppInvariants
from quorate.protocols.tendermint.app_liars import APP_LIARS
from quorate.protocols.tendermint.app_mutants import APP_MUTANTS, SmallAppChain
from quorate.protocols.tendermint.evidence_invariants import EvidenceInvariants
from quorate.protocols.tendermint.extension_liars import EXTENSION_LIARS
from quorate.protocols.tendermint.liars import resign_tendermint
from quorate.protocols.tendermint.messages import TendermintConfig
from quorate.protocols.tendermint.sync_liars import SYNC_LIARS
from quorate.sim.equipment import Equipment


def app_equipment(simulation: TendermintConfig) -> Equipment:
    """With the config of Tendermint's other runs."""
    return Equipment(
        core=SmallAppChain,
        simulation=simulation,
        kinds=("gone", "snapshots", "delays"),
        variants={"snapshots": lambda config, rng, _: config.but(chunk_bytes=48)},
        invariants=(AppInvariants, EvidenceInvariants),
        mutants=APP_MUTANTS,
        liars=tuple(dict.fromkeys((*APP_LIARS, *EXTENSION_LIARS, *SYNC_LIARS))),
        resign=resign_tendermint,
    )
