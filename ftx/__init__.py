"""Move files between machines that can reach each other: verified, resumable, encrypted.

The package is a house of floors, and an import may only go down:

0. `ftx.errors`, `ftx.limits`, `ftx.text`: vocabulary.
1. `ftx.wire`: bytes to typed messages and back; knows no sockets.
2. `ftx.core`: the state machines and rules; knows no files, no clock, no Twisted.
3. `ftx.disk`: files, blocking on purpose; knows no Twisted.
4. `ftx.net`: the Twisted adapters, where bytes, rules and files meet the reactor.
5. `ftx.daemon`: what exists, and for how long.
6. `ftx.client`: for people and scripts; never imports the daemon.

`docs/architecture.md` has the whole picture.
"""

__version__ = "0.1.0"
