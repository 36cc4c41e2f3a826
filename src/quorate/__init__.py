"""Quorate: consensus for Python."""
