"""What ledgers are made of, pure: formats, hashes and rules of chains. No sockets, no disk, no clock."""
