"""Sealers: who may make the next block of a chain, and how others see that. Each family has files of its own."""
