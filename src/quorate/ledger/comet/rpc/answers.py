"""What routes answer, as values for JSON: results of apps, blocks, nodes, peers.

The structures of a chain are written by ``json_shapes``. Here is what the RPC puts around them, and what apps answer,
whose empty fields CometBFT leaves out in some answers and not in others.

Source: CometBFT 0.38, ``rpc/core/types/responses.go``, ``types/events.go``, and its answers.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from quorate.ledger.comet.abci.contents import ProofOps, ValidatorUpdate
from quorate.ledger.comet.abci.response_messages import (
    ResponseCheckTx,
    ResponseFinalizeBlock,
    ResponseInfo,
    ResponseQuery,
)
from quorate.ledger.comet.block_ids import BLOCK_ID, NIL
from quorate.ledger.comet.blocks import BLOCK, tx_hash
from quorate.ledger.comet.headers import BLOCK_PROTOCOL, HEADER
from quorate.ledger.comet.json_shapes import KEY_KIND, to_json
from quorate.ledger.comet.params import CONSENSUS_PARAMS, ConsensusParams
from quorate.ledger.comet.part_sets import MERKLE_PROOF
from quorate.ledger.comet.results import ExecTxResult
from quorate.ledger.comet.rpc.shown_events import shown_events
from quorate.ledger.comet.rpc.view import (
    COMET_VERSION,
    ChainBlock,
    CometNodeInfo,
    CometPeer,
    ConsensusMoment,
    IndexedTx,
)
from quorate.ledger.comet.validators import CometValidator, ValidatorKey
from quorate.parts.crypto.merkle import MerkleProof


def hexadecimal(data: bytes) -> str:
    """As hashes and addresses are shown."""
    return data.hex().upper()


def base64_or_null(data: bytes) -> str | None:
    """As other bytes are shown."""
    return b64encode(data).decode() if data else None


def base64_text(data: bytes) -> str:
    """As transactions are shown."""
    return b64encode(data).decode()


def events_answer(events: Iterable[bytes]) -> list[dict[str, Any]]:
    """Events, each field of them."""
    return [msgspec.to_builtins(event) for event in shown_events(events)]


def result_answer(result: ExecTxResult | ResponseCheckTx) -> dict[str, Any]:
    """What an app said of a transaction."""
    return {
        "code": result.code,
        "data": base64_or_null(result.data),
        "log": result.log,
        "info": result.info,
        "gas_wanted": str(result.gas_wanted),
        "gas_used": str(result.gas_used),
        "events": events_answer(result.events),
        "codespace": result.codespace,
    }


def update_answer(update: ValidatorUpdate) -> dict[str, Any]:
    """A change of a validator's power; a power of zero is left out."""
    key = {"type": "tendermint.crypto.PublicKey_Ed25519", "value": {"ed25519": base64_text(update.pub_key.ed25519)}}
    return {"pub_key": {"Sum": key}, **({"power": str(update.power)} if update.power else {})}


def param_updates_answer(params: ConsensusParams | None) -> dict[str, Any] | None:
    """Changed parameters; those that are not there, or zero, are left out."""
    if params is None:
        return None
    whole = to_json(CONSENSUS_PARAMS, params)
    return {
        name: {key: value for key, value in group.items() if value not in ("0", [], None)}
        for name, group in whole.items()
        if group is not None
    }


def block_results_answer(height: int, results: ResponseFinalizeBlock) -> dict[str, Any]:
    """Of the route block_results, where empty lists are null."""
    return {
        "height": str(height),
        "txs_results": [result_answer(result) for result in results.tx_results] or None,
        "finalize_block_events": events_answer(results.events) or None,
        "validator_updates": [update_answer(update) for update in results.validator_updates] or None,
        "consensus_param_updates": param_updates_answer(results.consensus_param_updates),
        "app_hash": base64_or_null(results.app_hash),
    }


def finalize_block_answer(results: ResponseFinalizeBlock) -> dict[str, Any]:
    """In an event, where what is empty is left out."""
    whole = {
        "events": events_answer(results.events),
        "tx_results": [result_answer(result) for result in results.tx_results],
        "validator_updates": [update_answer(update) for update in results.validator_updates],
        "consensus_param_updates": param_updates_answer(results.consensus_param_updates),
        "app_hash": base64_or_null(results.app_hash),
    }
    return {name: value for name, value in whole.items() if value}


def info_answer(info: ResponseInfo) -> dict[str, Any]:
    """Where the app stands; what is empty is left out."""
    whole = {
        "data": info.data,
        "version": info.version,
        "app_version": str(info.app_version) if info.app_version else "",
        "last_block_height": str(info.last_block_height) if info.last_block_height else "",
        "last_block_app_hash": base64_or_null(info.last_block_app_hash),
    }
    return {name: value for name, value in whole.items() if value}


def query_answer(found: ResponseQuery) -> dict[str, Any]:
    """What the app's state says."""
    return {
        "code": found.code,
        "log": found.log,
        "info": found.info,
        "index": str(found.index),
        "key": base64_or_null(found.key),
        "value": base64_or_null(found.value),
        "proofOps": _proof_answer(found.proof_ops),
        "height": str(found.height),
        "codespace": found.codespace,
    }


def broadcast_answer(tx: bytes, checked: ResponseCheckTx) -> dict[str, Any]:
    """Of a transaction that was handed in."""
    return {
        "code": checked.code,
        "data": hexadecimal(checked.data),
        "log": checked.log,
        "codespace": checked.codespace,
        "hash": hexadecimal(tx_hash(tx)),
    }


def block_answer(found: ChainBlock | None) -> dict[str, Any]:
    """A block with its name; one that is not there has none."""
    if found is None:
        return {"block_id": to_json(BLOCK_ID, NIL), "block": None}
    return {"block_id": to_json(BLOCK_ID, found.block_id), "block": to_json(BLOCK, found.block)}


def meta_answer(found: ChainBlock) -> dict[str, Any]:
    """What blockchain says of a block."""
    return {
        "block_id": to_json(BLOCK_ID, found.block_id),
        "block_size": str(found.size),
        "header": to_json(HEADER, found.block.header),
        "num_txs": str(len(found.block.data.txs)),
    }


def tx_answer(found: IndexedTx, proof: dict[str, Any] | None) -> dict[str, Any]:
    """A transaction that was run."""
    return {
        "hash": hexadecimal(tx_hash(found.tx)),
        "height": str(found.height),
        "index": found.index,
        "tx_result": result_answer(found.result),
        "tx": base64_text(found.tx),
        **({} if proof is None else {"proof": proof}),
    }


def proof_answer(root: bytes, proof: MerkleProof, tx: bytes) -> dict[str, Any]:
    """That a transaction is in the block whose transactions have this root."""
    return {"root_hash": hexadecimal(root), "data": base64_text(tx), "proof": to_json(MERKLE_PROOF, proof)}


def node_answer(node: CometNodeInfo) -> dict[str, Any]:
    """A node. Its protocol between nodes is ours, which has no number there: 0. And no channels."""
    return {
        "protocol_version": {"p2p": "0", "block": str(BLOCK_PROTOCOL), "app": str(node.app_version)},
        "id": node.id,
        "listen_addr": node.listen_addr,
        "network": node.network,
        "version": COMET_VERSION,
        "channels": "",
        "moniker": node.moniker,
        "other": {"tx_index": "on" if node.tx_index else "off", "rpc_address": node.rpc_address},
    }


def peer_answer(peer: CometPeer) -> dict[str, Any]:
    """A peer. CometBFT also says how many bytes went to and fro, channel by channel; our links have no channels."""
    return {
        "node_info": node_answer(peer.node_info),
        "is_outbound": peer.is_outbound,
        "connection_status": {"Duration": str(peer.duration_ns)},
        "remote_ip": peer.remote_ip,
    }


def key_answer(key: ValidatorKey) -> dict[str, Any]:
    """A public key."""
    return {"type": KEY_KIND, "value": base64_text(key.ed25519)}


def validator_answer(validator: CometValidator) -> dict[str, Any]:
    """A validator with its claim to propose."""
    return {
        "address": hexadecimal(validator.address),
        "pub_key": key_answer(validator.pub_key),
        "voting_power": str(validator.voting_power),
        "proposer_priority": str(validator.proposer_priority),
    }


def moment_answer(moment: ConsensusMoment) -> dict[str, Any]:
    """Where consensus stands, as consensus_state has it. CometBFT calls its form unstable."""
    proposer = moment.proposer
    return {
        "height/round/step": f"{moment.height}/{moment.round}/{moment.step}",
        "start_time": moment.start_time,
        "proposal_block_hash": hexadecimal(moment.proposal_block_hash),
        "locked_block_hash": hexadecimal(moment.locked_block_hash),
        "valid_block_hash": hexadecimal(moment.valid_block_hash),
        "height_vote_set": list(moment.votes),
        "proposer": {
            "address": "" if proposer is None else hexadecimal(proposer.address),
            "index": moment.proposer_index,
        },
    }


def full_moment_answer(moment: ConsensusMoment, validators: Sequence[CometValidator]) -> dict[str, Any]:
    """The same as dump_consensus_state has it, as far as our core keeps what CometBFT's does."""
    return {
        "height": str(moment.height),
        "round": moment.round,
        "step": moment.step,
        "start_time": moment.start_time,
        "validators": {
            "validators": [validator_answer(validator) for validator in validators],
            "proposer": None if moment.proposer is None else validator_answer(moment.proposer),
        },
        "votes": list(moment.votes),
    }


def _proof_answer(proof: ProofOps | None) -> dict[str, Any] | None:
    if proof is None:
        return None
    shown = [{"type": op.type, "key": base64_or_null(op.key), "data": base64_or_null(op.data)} for op in proof.ops]
    return {"ops": shown}
