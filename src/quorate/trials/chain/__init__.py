"""What a core that owns a tree of blocks is tested with: a small ledger, its payments, miners in virtual time."""
