"""The service: what a Node replicates and for whom. State machines, the Replica, servers and clients."""
