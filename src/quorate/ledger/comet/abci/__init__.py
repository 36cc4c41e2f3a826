"""ABCI 0.38: what an engine and an app say to each other, both sides' messages. No sockets, and no order of calls."""
