"""The ledger as a state machine: payments in the order of a log become blocks, which a store keeps."""
