"""An immutable mapping that is filled as fast as a dict, and changed as cheaply as an `immutables.Map`.

A worker that meets a crowded event for the first time sets some 800,000 entries, most of them by random keys, and for
those a `Map` takes five times as long as a dict. So a table has two layers: a dict, filled while the table was empty
and never changed again, and above it a `Map` of what was set or deleted since, shared with the tables before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from immutables import Map

K = TypeVar("K")
V = TypeVar("V")

_DELETED: Any = object()  # stands in the upper layer for an entry of the lower one that is no more


class _Layers(Generic[K, V]):
    """How an entry is found. `_changes` is a `Map`, or what `Map.mutate` gives. One line stands here four times, for a
    call would take as long as what it does."""

    __slots__ = ("_changes", "_count", "_filled")

    def __init__(self, filled: dict[K, V] | None = None, changes: Any = None, count: int = 0) -> None:
        self._filled = {} if filled is None else filled
        self._changes: Any = Map() if changes is None else changes
        self._count = count

    def __getitem__(self, key: K) -> V:
        value: V = self._changes.get(key, self._filled.get(key, _DELETED))
        if value is _DELETED:
            raise KeyError(key)
        return value

    def __contains__(self, key: Any) -> bool:
        return self._changes.get(key, self._filled.get(key, _DELETED)) is not _DELETED

    def __len__(self) -> int:
        return self._count

    def get(self, key: K, default: Any = None) -> Any:
        """As `dict.get`."""
        value = self._changes.get(key, self._filled.get(key, _DELETED))
        return default if value is _DELETED else value


class Table(_Layers[K, V], Mapping[K, V]):
    """A persistent mapping: `mutate` it, change what that gives, and `finish` it."""

    __slots__ = ()

    def __iter__(self) -> Iterator[K]:
        yield from (key for key in self._filled if key not in self._changes)
        yield from (key for key, value in self._changes.items() if value is not _DELETED)

    def __repr__(self) -> str:
        return f"Table({self._filled!r}, {dict(self._changes)!r})"  # all that it holds, what is hidden too

    def mutate(self) -> Filling[K, V] | Changing[K, V]:
        """The entries, to be changed many times in a row, as `immutables.Map.mutate` does it."""
        return Changing(self._filled, self._changes.mutate(), self._count) if self._count else Filling()


class Filling(dict[K, V]):
    """A table that was empty, under change: its lower layer."""

    def isdisjoint(self, keys: Iterable[K]) -> bool:
        """Whether none of these is there."""
        return self.keys().isdisjoint(keys)

    def finish(self) -> Table[K, V]:
        """The table. It ends the filling: nothing may be changed any more."""
        return Table(self, count=len(self))

    def flattened(self) -> Filling[K, V]:
        """Itself: there is nothing below."""
        return self


class Changing(_Layers[K, V]):
    """A table that was not empty, under change: of its upper layer, for the lower one is shared."""

    __slots__ = ()

    def __setitem__(self, key: K, value: V) -> None:
        if self._changes.get(key, self._filled.get(key, _DELETED)) is _DELETED:
            self._count += 1
        self._changes[key] = value

    def __delitem__(self, key: K) -> None:
        if key not in self:
            raise KeyError(key)
        self._count -= 1
        if key in self._filled:
            self._changes[key] = _DELETED
        else:
            del self._changes[key]

    def isdisjoint(self, keys: Iterable[K]) -> bool:
        """Whether none of these is there."""
        return not any(key in self for key in keys)

    def update(self, entries: Iterable[tuple[K, V]]) -> None:
        """Set all these."""
        for key, value in entries:
            self[key] = value

    def finish(self) -> Table[K, V]:
        """The table. It ends the changing."""
        return Table(self._filled, self._changes.finish(), self._count)

    def flattened(self) -> Filling[K, V]:
        """A copy in one layer, without what was deleted or is another by now: the lower layer holds that still."""
        flat = Filling(self._filled)
        for key, value in self._changes.finish().items():
            if value is _DELETED:
                del flat[key]
            else:
                flat[key] = value
        return flat
