"""`quorate lint`: what in a replicated class is no function of its log, found in its source, which is never run."""
