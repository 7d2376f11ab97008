"""A run of `get`: the machines that things are got from, one after the other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from ftx.client.sending import Transfers

if TYPE_CHECKING:
    from ftx.client.target import Target
    from ftx.wire.events import Event

__all__ = ["Getting"]


@attrs.define(eq=False)
class Getting(Transfers):
    """A run of `get`; the names are `ftx.client.api.get`'s."""

    #: What to get from each machine, as it was written, by the machine.
    sources: Mapping[str, Sequence[str]] = attrs.field(kw_only=True)
    folder: str = attrs.field(kw_only=True)
    exclude: Sequence[str] = attrs.field(kw_only=True, default=())
    #: What becomes of symbolic links there.
    links: str = attrs.field(kw_only=True, default="skip")
    #: Whether names may have control characters in them.
    any_names: bool = attrs.field(kw_only=True, default=False)
    #: Whether files are compressed on the way.
    compress: bool = attrs.field(kw_only=True, default=True)
    #: Whether the only file goes to standard output.
    to_stdout: bool = attrs.field(kw_only=True, default=False)

    pulls: ClassVar[bool] = True

    @property
    def streamed(self) -> bool:
        """Whether it goes to standard output."""
        return self.to_stdout

    async def transfer(self, reactor: Any, target: Target, on_event: Callable[[Event], None]) -> None:
        """See `Transfers`."""
        from ftx.client.api import get
        from ftx.client.configured import api_settings

        await get(
            reactor,
            api_settings(self.options),
            self.sources[target.machine()],
            self.folder,
            conflict=self.conflict or "fail",
            checksum=self.checksum,
            exclude=self.exclude,
            links=self.links,
            any_names=self.any_names,
            compress=self.compress,
            lanes=self.lanes,
            output=sys.stdout.fileno() if self.to_stdout else None,
            on_event=on_event,
            warn=lambda text: self.options.output.note(text, "warn"),
        )
