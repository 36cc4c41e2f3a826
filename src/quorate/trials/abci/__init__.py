"""The workload ``app``: chains with ABCI apps in the simulator, and what must hold of them."""
