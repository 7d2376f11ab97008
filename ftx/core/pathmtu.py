"""How large a packet may be on the way to a host: found by echoes of different sizes, which must not be cut up.

A router that cannot pass a packet on says so, and which size would do (RFC 1191, RFC 8201). Where it says nothing, or a
firewall drops what it says, large packets just vanish: a black hole. Then the sizes that links really have are tried
(RFC 4821). Pure: sizes out, outcomes in.
"""

from __future__ import annotations

from typing import Final

import attrs

__all__ = ["PathMtu"]

#: What every link must carry (RFC 791 has 68, which nobody has; RFC 8200).
_LEAST: Final = {4: 576, 6: 1280}
#: Sizes of links: Ethernet, less PPPoE, tunnels, WireGuard, mobile networks, the least of IPv6; and jumbo frames.
_PLATEAUS: Final = (9000, 8000, 4352, 1500, 1492, 1480, 1472, 1460, 1440, 1420, 1400, 1380, 1360, 1340, 1280, 1024, 576)
#: Losses of one size that count as "does not pass".
_LOSSES: Final = 2
#: Echoes in all.
_TRIES: Final = 16


@attrs.define(eq=False)
class PathMtu:
    """One search. `first` is the size that our own link takes, IP header included."""

    version: int
    first: int
    #: The largest that is known to pass, 0 for none.
    passes: int = attrs.field(default=0, init=False)
    #: Whether something that was too large vanished without a word.
    black_hole: bool = attrs.field(default=False, init=False)
    _next: int = attrs.field(init=False)
    _too_large: int = attrs.field(init=False)
    _lost: int = attrs.field(default=0, init=False)
    _tries: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._next = self.first
        self._too_large = self.first + 1

    def next_size(self) -> int | None:
        """The size to try now, None when there is nothing left to learn."""
        if self._tries >= _TRIES or self.passes >= self._too_large - 1 or self._next <= self.passes:
            return None
        return self._next

    def passed(self, size: int) -> None:
        """An echo of that size came back."""
        self._tries += 1
        self._lost = 0
        self.passes = max(self.passes, size)
        self._choose()

    def refused(self, size: int, mtu: int) -> None:
        """A router, or our own kernel, said that it is too large; `mtu` is what would do, 0 when that was not said."""
        self._tries += 1
        self._lost = 0
        self._too_large = min(self._too_large, size)
        if _LEAST[self.version] <= mtu < size:
            self._next = mtu
            self._too_large = min(self._too_large, mtu + 1)
        else:
            self._choose()

    def lost(self, size: int) -> None:
        """Nothing came."""
        self._tries += 1
        self._lost += 1
        if self._lost >= _LOSSES:
            self._lost = 0
            self.black_hole = True
            self._too_large = min(self._too_large, size)
            self._choose()

    def _choose(self) -> None:
        """The middle one of the sizes that links have, among those that are still possible."""
        open_ = [one for one in _PLATEAUS if max(self.passes, _LEAST[self.version] - 1) < one < self._too_large]
        self._next = open_[len(open_) // 2] if open_ else self.passes
