"""Clients of a Quorate cluster: the session they share, and an asynchronous and a synchronous shell around it."""
