"""The real runtime: asyncio, sockets, threads and fsync live here and nowhere below."""
