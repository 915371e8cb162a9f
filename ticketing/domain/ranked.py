"""An immutable set of positive integers that knows the rank of each: the index behind the waiting list.

Orders are numbered in the order of their arrival. Those that wait are members of a `RankedSet`, so "who is
first", "who is next" and "at which position is this one" are questions about ranks of integers. People also
leave from the middle, so neither a list (removal costs its length) nor a counter (positions go wrong) will do.

The set is a radix tree: a leaf is the bit mask of 1,024 numbers, an inner node has 32 children and the counts
of members below each. A change copies one path; everything else is shared with the set before it. With
1,000,000 numbers a path has three nodes, and each operation takes a few microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

LEAF_BITS = 10
FAN_BITS = 5
LEAF_SIZE = 1 << LEAF_BITS
FAN_SIZE = 1 << FAN_BITS
LEAF_MASK = LEAF_SIZE - 1
FAN_MASK = FAN_SIZE - 1

# A node is a leaf (the bit mask, an int) or an inner node (counts of the children, the children).
# Any: mypy has no way to say "a tuple of nodes" without a class, and a class costs a third of the speed.
Node = Any
EMPTY_INNER: Node = ((0,) * FAN_SIZE, (0,) * FAN_SIZE)


class RankedSet:
    """A persistent set of integers >= 1 with ranks. `add` and `discard` return the changed set."""

    __slots__ = ("_count", "_height", "_root")

    def __init__(self, root: Node = 0, height: int = 0, count: int = 0) -> None:
        self._root = root
        self._height = height  # of inner nodes above the leaves
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __contains__(self, number: int) -> bool:
        return number >= 1 and bool(self._leaf(number) >> (number & LEAF_MASK) & 1)

    def add(self, number: int) -> RankedSet:
        """The set with `number` (>= 1) in it."""
        if number < 1:
            raise ValueError(f"numbers start at 1, got {number}")
        return self if number in self else self._flipped(number, 1 << (number & LEAF_MASK))

    def discard(self, number: int) -> RankedSet:
        """The set without `number`."""
        return self._flipped(number, 1 << (number & LEAF_MASK)) if number in self else self

    def mutate(self) -> RankedSetMutation:
        """A set to be changed many times in a row, as `immutables.Map.mutate` does it."""
        return RankedSetMutation(self)

    def rank(self, number: int) -> int:
        """How many members are `<= number`: for a member, its position counted from 1."""
        if number < 1:
            return 0
        if number >= self._capacity():
            return self._count
        rank: int = 0
        node = self._root
        for level in range(self._height, 0, -1):
            slot = _slot(number, level)
            rank += sum(node[0][:slot])
            node = node[1][slot]
            if node == 0:
                return rank
        below = (2 << (number & LEAF_MASK)) - 1
        return rank + cast(int, node & below).bit_count()

    def after(self, number: int = 0) -> Iterator[int]:
        """The members greater than `number`, ascending."""
        if number + 1 < self._capacity():
            yield from _members(self._root, self._height, 0, max(number + 1, 0))

    def __iter__(self) -> Iterator[int]:
        return self.after(0)

    def _capacity(self) -> int:
        return LEAF_SIZE << FAN_BITS * self._height

    def _leaf(self, number: int) -> int:
        """The mask of the leaf that `number` belongs to."""
        if number >= self._capacity():
            return 0
        node = self._root
        for level in range(self._height, 0, -1):
            node = node[1][_slot(number, level)]
            if node == 0:
                return 0
        return cast(int, node)

    def _flipped(self, number: int, mask: int) -> RankedSet:
        """The set without those members, and with those strangers, that `mask` names in the leaf of `number`."""
        leaf = self._leaf(number)
        step = (leaf ^ mask).bit_count() - leaf.bit_count()
        root, height = self._root, self._height
        while number >= LEAF_SIZE << FAN_BITS * height:
            root = ((self._count, *EMPTY_INNER[0][1:]), (root, *EMPTY_INNER[1][1:]))
            height += 1
        return RankedSet(_changed(root, height, number, mask, step), height, self._count + step)


class RankedSetMutation:
    """A `RankedSet` under change. A leaf's path is copied once, however many of its numbers come and go.

    `add` takes strangers (>= 1) and `discard` takes members only: whoever changes the set knows which is which,
    and to look it up would cost as much as the change.
    """

    __slots__ = ("_count", "_flips", "_settled")

    def __init__(self, members: RankedSet) -> None:
        self._settled = members
        self._flips: dict[int, int] = {}  # what differs from `_settled`: the mask of each leaf, by its place
        self._count = len(members)

    def __len__(self) -> int:
        return self._count

    def add(self, number: int) -> None:
        """Take `number` in, which is not in it."""
        self._flip(number)
        self._count += 1

    def discard(self, number: int) -> None:
        """Take `number` out, which is in it."""
        self._flip(number)
        self._count -= 1

    def rank(self, number: int) -> int:
        """As `RankedSet.rank`."""
        return self.finish().rank(number)

    def finish(self) -> RankedSet:
        """The set as it is now."""
        for place, mask in self._flips.items():
            if mask:  # not all came and went again
                self._settled = self._settled._flipped(place << LEAF_BITS, mask)
        self._flips.clear()
        return self._settled

    def _flip(self, number: int) -> None:
        place = number >> LEAF_BITS
        self._flips[place] = self._flips.get(place, 0) ^ 1 << (number & LEAF_MASK)


def _slot(number: int, level: int) -> int:
    return number >> (LEAF_BITS + FAN_BITS * (level - 1)) & FAN_MASK


def _changed(node: Node, level: int, number: int, mask: int, step: int) -> Node:
    """The node with `mask` flipped in the leaf of `number`, which makes `step` members more (or less, below 0).

    An emptied node is 0, so that its memory goes.
    """
    if level == 0:
        return node ^ mask
    counts, children = EMPTY_INNER if node == 0 else node
    slot = _slot(number, level)
    count = counts[slot] + step
    child = _changed(children[slot], level - 1, number, mask, step) if count else 0
    return (
        (*counts[:slot], count, *counts[slot + 1 :]),
        (*children[:slot], child, *children[slot + 1 :]),
    )


def _members(node: Node, level: int, base: int, least: int) -> Iterator[int]:
    """The members `>= least` below a node whose first number is `base`."""
    if node == 0:
        return
    if level == 0:
        mask = node if least <= base else node >> (least - base) << (least - base)
        while mask:
            lowest = mask & -mask
            yield base + lowest.bit_length() - 1
            mask ^= lowest
        return
    span = LEAF_SIZE << FAN_BITS * (level - 1)
    first = max(0, (least - base) // span)
    for slot in range(first, FAN_SIZE):
        if node[0][slot]:
            yield from _members(node[1][slot], level - 1, base + slot * span, least)
