"""Votes: counted (``tally.py``), signed by a quorum (``certificate.py``), and contradicted (``evidence.py``)."""
