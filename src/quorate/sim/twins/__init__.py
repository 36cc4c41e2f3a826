"""Twins (Bano and others, arXiv 2004.10617): a Byzantine node as two honest copies of it that share one key.

What a node that lies can do to agreement, two copies of an honest one can mostly do too, each in its own part of the
network: vote twice, propose twice, forget what it said. And copies need no imagination, so that scenarios can be
counted: partitions x leaders, a choice for each round. ``scenarios.py`` enumerates them, ``stage.py`` runs one.
"""
