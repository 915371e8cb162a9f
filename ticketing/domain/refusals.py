"""Refusals as a ledger keeps them: a code and details, from which they are made again."""

from __future__ import annotations

from types import UnionType
from typing import Any, get_origin, get_type_hints

from ..errors import BulkRefused, Refusal
from .commands import BULK_MAX

# By code, with the types of what their constructors take.
_KINDS = {kind.code: (kind, get_type_hints(kind.__init__)) for kind in Refusal.__subclasses__()}


def refusal_of(code: Any, details: Any) -> Refusal:
    """The refusal with this code and these details, which are what its constructor takes, of the types that it names.

    Raises AttributeError, KeyError, TypeError or ValueError for what is none.
    """
    kind, hints = _KINDS[code]
    for name, value in details.items():
        if not _is_a(value, hints[name]):
            raise TypeError(f"{name} of {code} is of the wrong type")
    refusal = kind(**details)
    if isinstance(refusal, BulkRefused):
        refused_in(refusal)
    return refusal


def refused_in(refusal: BulkRefused) -> dict[int, Refusal]:
    """The refusals of those bookings that cannot be confirmed, by place.

    Raises what `refusal_of` raises where they are none, or are not among so many bookings.
    """
    count = refusal.details["count"]
    refused = {each["index"]: refusal_of(each["code"], each["details"]) for each in refusal.details["refused"]}
    if count > BULK_MAX or not all(place in range(count) for place in refused):
        raise ValueError(f"{refusal.code} is of other bookings than there can be")
    return refused


def _is_a(value: object, hint: Any) -> bool:
    origin = get_origin(hint)
    # A bool is no number, though Python takes it for an int.
    return isinstance(value, hint if origin in (None, UnionType) else origin) and not isinstance(value, bool)
