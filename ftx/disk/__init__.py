"""Floor 3: files, keys and records. Blocking on purpose; no Twisted."""
