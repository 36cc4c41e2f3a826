"""What a replicated log that a leader keeps is made of, whichever protocol elects it: Raft or Multi-Paxos."""
