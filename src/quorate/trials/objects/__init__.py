"""Replicated classes from people's files, put to the test in the simulator."""
