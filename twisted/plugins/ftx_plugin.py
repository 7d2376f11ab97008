"""Makes `twistd ftx` known.

Every twistd on the machine imports this file, for whatever it runs: so it holds strings and imports nothing of ftx.
There must be no `__init__.py` in this folder or the one above: it would replace Twisted's own.
"""

from twisted.application.service import ServiceMaker

ftx = ServiceMaker("ftx", "ftx.daemon.tap", "Receive files sent with ftx-client, and be discovered.", "ftx")
