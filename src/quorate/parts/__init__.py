"""Pure building blocks that protocols share: quorums, tallies, logs, timers, and what a replicated log says upwards."""
