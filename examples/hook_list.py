#!/usr/bin/env python3
"""A hook that keeps a list of what was received, one file a line.

In config.toml (then: ftx-client ctl reload):

    [hook.list]
    on = "received"
    command = ["/usr/bin/python3", "/usr/local/lib/ftx/hook_list.py"]
    environment = { LIST = "received.tsv" }   # relative: in the working folder of the hook
"""

import base64
import json
import os
import sys


def path_of(item: dict[str, str]) -> bytes:
    """Where a stored file is below the inbox, exactly: names are bytes, and not all of them are text."""
    exact = item.get("stored_as_b64")
    return base64.b64decode(exact) if exact else os.fsencode(item["stored_as"])


def main() -> int:
    """Read one event, write its files down; the exit code and the last line on stderr are in the daemon's log."""
    try:
        event = json.load(sys.stdin)
    except ValueError:
        sys.exit("usage: hook_list.py < EVENT   (a daemon runs it; see the top of this file)")
    inbox = os.fsencode(event["inbox"])
    with open(os.environ.get("LIST", "received.tsv"), "a", encoding="utf-8") as file:
        for item in event["stored"]:
            there = os.path.exists(os.path.join(inbox, path_of(item)))
            # A peer chose the name: it is quoted, as JSON does it, and never part of a command.
            row = (event["time"], event["peer"]["name"], item["digest"], json.dumps(item["stored_as"]), str(there))
            file.write("\t".join(row) + "\n")
        if event["stored_more"]:
            file.write(f"{event['time']}\t{event['peer']['name']}\t\tand {event['stored_more']} more\t\n")
    return 0


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.exit(print(__doc__))
    sys.exit(main())
