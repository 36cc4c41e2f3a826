"""The service: who replicates, and for whom. Replicas, servers, clients, handles of replicated objects."""
