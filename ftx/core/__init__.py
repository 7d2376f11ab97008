"""Floor 2: the state machines and rules. No files, no clock, no Twisted; time is a parameter."""
