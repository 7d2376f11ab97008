"""Floor 4: the Twisted adapters, where bytes, rules and files meet the reactor."""
