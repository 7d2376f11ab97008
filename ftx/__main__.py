"""`python -m ftx` is `ftx-client`."""

from __future__ import annotations

import sys

from ftx.client.start import main

if __name__ == "__main__":
    sys.exit(main())
