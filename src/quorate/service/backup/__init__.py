"""Backups: the state of a cluster in a file, and new clusters that begin with it."""
