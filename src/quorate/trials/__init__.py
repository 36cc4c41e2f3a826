"""What a test of a protocol is made of: subjects, clients, planted bugs, campaigns. Production imports none of it."""
