"""The addresses of this host, asked of the kernel only where one of them decides: for most peers that is never."""

from __future__ import annotations

__all__ = ["OwnAddresses"]


class OwnAddresses:
    """The addresses of this host, looked up each time that one of them is asked about (`in`).

    What looks them up is imported then, too: a client that is quick to start rarely needs it.
    """

    def __contains__(self, address: object) -> bool:
        from ftx.net.interfaces import interfaces, own_addresses

        return address in own_addresses(interfaces())
