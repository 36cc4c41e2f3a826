"""Nodes of a chain with an ABCI app: the app's side, and the blocks that are kept for whoever asks."""
