"""Tables of a configuration file, as a person has written them: read strictly, and complained about by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from ftx import limits
from ftx.disk.configfile import invalid
from ftx.errors import FtxError
from ftx.text import show

__all__ = ["Reading", "listed"]

_T = TypeVar("_T")
_S = TypeVar("_S", bound=msgspec.Struct)
_AT: Final = re.compile(r" - at `\$\.?(\w*).*`$")


def listed(value: str | list[str]) -> Sequence[str]:
    """One text, or several; ValueError for too many."""
    found = [value] if isinstance(value, str) else value
    if len(found) > limits.CONFIG_ITEMS:
        raise ValueError(f"more than {limits.CONFIG_ITEMS} values")
    return found


class Reading:
    """One table while it is read: `what` it is and `where` it stands, for complaints."""

    def __init__(self, what: str, where: str) -> None:
        self.what = what
        self.where = where

    def wrong(self, problem: str, key: str = "", hint: str = "") -> FtxError:
        """FtxError `config-invalid` for this table, or for its key `key`."""
        subject = f"{key} of {self.what}" if key else self.what
        return invalid(f"{show(subject)} in {show(self.where)}", show(problem), hint)

    def convert(self, table: Any, kind: type[_S]) -> _S:
        """The table as a `kind`; a key that does not exist is an error that names the one which was probably meant."""
        fields = [field.encode_name for field in msgspec.structs.fields(kind)]
        for key in table if isinstance(table, dict) else ():
            if key not in fields:
                close = difflib.get_close_matches(key, fields, n=1)
                hint = f"did you mean {close[0]}?" if close else f"the keys are {', '.join(fields)}"
                raise self.wrong("there is no such key", key, hint)
        try:
            return msgspec.convert(table, kind)
        except msgspec.ValidationError as error:
            at = _AT.search(str(error))
            problem = _AT.sub("", str(error)).replace("`", "")
            raise self.wrong(problem[:1].lower() + problem[1:], at[1] if at else "") from error

    def field(self, key: str, parse: Callable[[], _T]) -> _T:
        """What `parse` makes of the field `key`; its complaint names it."""
        try:
            return parse()
        except ValueError as error:
            raise self.wrong(str(error), key) from error
        except FtxError as error:
            raise self.wrong(error.message, key, error.hint) from error
