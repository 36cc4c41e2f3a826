"""Record a CometBFT 0.38 chain from its RPC: `python -m tests.ledger.comet.record URL FILE [HEIGHTS]`.

One line of JSON for each height, after one with the genesis: what the routes block, validators and block_results say,
and the proofs of some transactions; last, the commit of the last block. recorded/README.md says how the chain was made.
"""

import json
import sys
import urllib.request
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

PROOFS_A_BLOCK = 3


def get(url: str, path: str) -> Any:
    with urllib.request.urlopen(f"{url}/{path}", timeout=30) as answer:
        return json.load(answer)["result"]


def record(url: str, heights: int) -> list[Any]:
    lines: list[Any] = [get(url, "genesis")]
    for height in range(1, heights + 1):
        block = get(url, f"block?height={height}")
        names = [sha256(b64decode(tx)).hexdigest() for tx in block["block"]["data"]["txs"] or []]
        proofs = [get(url, f"tx?hash=0x{name}&prove=true") for name in names[:PROOFS_A_BLOCK]]
        lines.append(
            {
                "block": block,
                "validators": get(url, f"validators?height={height}&per_page=100"),
                "block_results": get(url, f"block_results?height={height}"),
                "proofs": [{"index": proof["index"], "proof": proof["proof"]["proof"]} for proof in proofs],
            }
        )
    lines.append(get(url, f"commit?height={heights}"))
    return lines


def main() -> None:
    url, path, *rest = sys.argv[1:]
    lines = record(url, int(rest[0]) if rest else 40)
    Path(path).write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


if __name__ == "__main__":
    main()
