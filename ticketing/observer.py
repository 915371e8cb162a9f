"""Observer: what a TicketManager tells whoever counts. The manager does not know who that is.

It costs a call where something happens once a request, and the rest is once a batch.
"""

from __future__ import annotations

from .domain.commands import Command
from .domain.model import Answer, EventState
from .errors import TicketingError


class Observer:
    """Counts nothing: what a manager has unless it is given another.

    Each method may be called by any thread. It must not wait for anything, and must not raise.
    """

    def executed(self, command: Command, outcome: Answer | TicketingError) -> None:
        """A command has its answer, or the error that its caller gets instead."""

    def served(self, requests: int, orders_kept: int, waiting: int) -> None:
        """So many requests waited for one event and were answered together; reads are among them.

        `orders_kept` is what all states in memory weigh now, in orders; `waiting` how many requests wait for their turn
        now, over all events.
        """

    def appended(self, transitions: int, duration_s: float, is_in: bool) -> None:
        """A commit was tried. Not `is_in`: another worker was faster, nothing was written."""

    def caught_up(self) -> None:
        """The ledger was read for what is new."""

    def changed(self, state: EventState) -> None:
        """An event has come to another version."""
