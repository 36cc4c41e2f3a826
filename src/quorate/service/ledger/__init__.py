"""Clients and configuration of a cluster that keeps a ledger."""
