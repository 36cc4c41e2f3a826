"""Nakamoto consensus: the chain with the most work is the chain (Nakamoto 2008, "Bitcoin").

Begin with ``core.py``.
"""
