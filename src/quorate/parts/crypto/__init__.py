"""What cores know of cryptography: keys that sign and check (``keys.py``). What does it is in the runtime."""
