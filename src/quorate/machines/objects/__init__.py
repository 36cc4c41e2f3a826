"""Replicated objects: a plain Python class whose marked methods go through consensus. ``machine.py`` says how."""
