"""PBFT: ``messages.py`` says what travels and what is durable."""
