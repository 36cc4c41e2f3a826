"""Evidence of attacks on light clients, true and false, for CometBFT to judge: `python -m tests.ledger.comet.attacks`.

One line of JSON for each case: the evidence, the chain's light block at the common height, and the one that it is
compared with. recorded/attacks.go says how they get an answer.
"""

import json
from collections.abc import Iterator

from msgspec.structs import replace

from quorate.ledger.comet.divergence import attack_evidence
from quorate.ledger.comet.evidence import LIGHT_CLIENT_ATTACK, LightClientAttackEvidence
from quorate.ledger.comet.light_blocks import LIGHT_BLOCK, LightBlock

from tests.ledger.comet import making

SET = making.validators({1: 10, 2: 5, 3: 3, 4: 1})
OTHERS = making.validators({11: 10, 12: 5})
HASH = making.HASH[::-1]
TRUE = {height: making.block(height, SET) for height in range(1, 10)}
LIES = {
    "lunatic": making.block(9, SET, app_hash=b"lunatic", absent={3}),
    "lunatic of other validators": making.block(9, OTHERS),
    "lunatic of a third": making.block(9, making.validators({1: 10, 11: 3})),
    "lunatic of less": making.block(9, making.validators({2: 5, 11: 1})),
    "lunatic results": making.block(9, SET, last_results_hash=HASH, nil={2}),
    "lunatic params": making.block(9, SET, consensus_hash=HASH),
    "lunatic next validators": making.block(9, SET, OTHERS),
    "equivocation": making.block(9, SET, data_hash=HASH, nil={2}),
    "equivocation in time alone": making.block(9, SET, time=making.at(10)),
    "amnesia": making.block(9, SET, data_hash=HASH, round_=1),
    "the chain's own": making.block(9, SET),
    "ahead, not later": making.block(12, SET, app_hash=b"lunatic", time=making.at(8)),
    "ahead, as late": making.block(12, SET, app_hash=b"lunatic", time=making.at(9)),
    "ahead, later": making.block(12, SET, app_hash=b"lunatic"),
    "ahead on the same state": making.block(12, SET, time=making.at(8)),
    "too few signed": making.block(9, SET, app_hash=b"lunatic", absent={0}),
}


def changed(piece: LightClientAttackEvidence) -> Iterator[tuple[str, LightClientAttackEvidence]]:
    """What is wrong in one thing, or in none."""
    liars, block = piece.byzantine_validators, piece.conflicting_block
    yield "as it is", piece
    yield "common height 4", replace(piece, common_height=4, timestamp=making.at(4))
    yield "common height 9", replace(piece, common_height=9, timestamp=making.at(9))
    yield "another time", replace(piece, timestamp=making.at(6))
    yield "another power", replace(piece, total_voting_power=20)
    yield "one liar less", replace(piece, byzantine_validators=liars[:-1])
    yield "another order", replace(piece, byzantine_validators=liars[::-1])
    yield "all are liars", replace(piece, byzantine_validators=SET.validators)
    yield "another priority", replace(piece, byzantine_validators=tuple(replace(v, proposer_priority=7) for v in liars))
    yield "a liar of more power", replace(piece, byzantine_validators=tuple(replace(v, voting_power=9) for v in liars))
    entries = block.commit.signatures
    wrong = tuple(replace(entry, signature=entry.signature and bytes(64)) for entry in entries)
    signed = replace(block.signed_header, commit=replace(block.commit, signatures=wrong))
    yield "no signature holds", replace(piece, conflicting_block=replace(block, signed_header=signed))
    last = (*entries[:-1], replace(entries[-1], signature=entries[-1].signature and bytes(64)))
    signed = replace(block.signed_header, commit=replace(block.commit, signatures=last))
    yield "the last signature is wrong", replace(piece, conflicting_block=replace(block, signed_header=signed))


def cases() -> Iterator[tuple[str, LightClientAttackEvidence, LightBlock, LightBlock]]:
    """Name, evidence, and of the chain the common block and the last one, which has height 9."""
    for lie, block in LIES.items():
        for change, piece in changed(attack_evidence(block, TRUE[9], TRUE[5])):
            yield f"{lie}: {change}", piece, TRUE[min(piece.common_height, 9)], TRUE[9]


def main() -> None:
    for name, piece, common, trusted in cases():
        line = {
            "name": name,
            "evidence": LIGHT_CLIENT_ATTACK.encode(piece).hex(),
            "common": LIGHT_BLOCK.encode(common).hex(),
            "trusted": LIGHT_BLOCK.encode(trusted).hex(),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
