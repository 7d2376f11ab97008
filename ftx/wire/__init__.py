"""Floor 1: bytes to typed messages and back. No sockets, no files, no Twisted."""
