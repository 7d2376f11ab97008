"""Verbs that are imported when one of them is asked for: a run needs one of some fifteen, and waits for its import."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module

import click

__all__ = ["LateVerbs"]


class LateVerbs(MutableMapping[str, click.Command]):
    """The verbs of a group, by name; made of the places where they are written.

    To know the names imports nothing. The help of the group has a line of each verb, and so imports all of them.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        """`places` has for each name `package.module:attribute`; what is not there fails when it is asked for."""
        self._verbs: dict[str, str | click.Command] = dict(places)

    def __getitem__(self, name: str) -> click.Command:
        """The verb called `name`, imported if it is the first time; KeyError when there is none."""
        verb = self._verbs[name]
        if isinstance(verb, str):
            module, _, attribute = verb.partition(":")
            found = getattr(import_module(module), attribute)
            if not isinstance(found, click.Command):
                raise TypeError(f"{verb} is not a verb")
            self._verbs[name] = verb = found
        return verb

    def __setitem__(self, name: str, verb: click.Command) -> None:
        self._verbs[name] = verb

    def __delitem__(self, name: str) -> None:
        del self._verbs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._verbs)

    def __contains__(self, name: object) -> bool:
        """Whether there is such a verb; it is not imported for the question."""
        return name in self._verbs

    def __len__(self) -> int:
        return len(self._verbs)
