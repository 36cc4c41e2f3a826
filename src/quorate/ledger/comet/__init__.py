"""CometBFT 0.38 (block protocol 11), byte for byte: its structures, hashes, sign bytes, proofs and ABCI messages."""
