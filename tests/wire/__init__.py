"""Tests of the wire: codec, frames, handshake, links between nodes, the port for clients."""
