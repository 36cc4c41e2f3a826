"""The simulator: whole clusters under one seed, with faults, and checkers that look on."""
