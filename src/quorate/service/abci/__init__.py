"""ABCI over sockets, both sides: a node's calls to an app elsewhere, and an app that any engine can call."""
