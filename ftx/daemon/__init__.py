"""Floor 5: the running daemon: what exists, and for how long."""
