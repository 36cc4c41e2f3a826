"""Logs and chains: ``entries.py`` holds a log, ``replicated.py`` and ``chain.py`` name what is told upwards."""
