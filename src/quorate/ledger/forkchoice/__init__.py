"""Fork choices: which block of a tree a node follows. Each is a rule of one family, in a file of its own."""
