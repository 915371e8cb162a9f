"""Receivers that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .receiver import Receiver

MakeReceiver = Callable[..., Receiver]


@pytest.fixture
def make_receiver() -> Iterator[MakeReceiver]:
    """Makes receivers."""
    made: list[Receiver] = []

    def make(*args: Any) -> Receiver:
        made.append(Receiver(*args))
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


@pytest.fixture
def receiver(make_receiver: MakeReceiver) -> Receiver:
    """One that takes all."""
    return make_receiver()
