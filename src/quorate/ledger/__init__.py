"""Ledger: what chains are made of, pure, whatever protocol decides them."""
