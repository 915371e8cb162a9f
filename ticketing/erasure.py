"""Erasing a user: the account goes, and in all ledgers a pseudonym takes the place of the name.

In this order, so that whatever is interrupted can be repeated, and ends the same:

    1. the account is marked with the pseudonym, and may do nothing else from now on, in other workers a little later
    2. his webhooks end: he is told of nothing any more
    3. in each event that names the user a transition `pseudonymized` gives his orders to the pseudonym, so that all
       workers forget the name, and then the name is replaced in what was before it: who has it later is another
    4. the sessions and the account are removed, and the name is free

An event whose ledger is damaged holds up no other: the fourth step alone waits for its repair.
"""

from __future__ import annotations

import logging
import secrets
from typing import Protocol

from .accounts import RECENT_S, Accounts
from .clock import Clock
from .domain.commands import Pseudonymize
from .errors import LedgerDamaged, StorageUnavailable
from .manager import TicketManager

log = logging.getLogger(__name__)

EVENT_S_MIN = 0.5
"""Who has less time left for an event leaves it to the repeat: the manager would take the storage for away."""


class Names(Protocol):
    """The names in the ledgers; see storage/names.py."""

    def events_naming(self, user_id: str, deadline: float) -> list[str]:
        """The events that name a user."""

    def replace(self, event_id: str, version: int, user_id: str, pseudonym: str, deadline: float) -> None:
        """Put the pseudonym in the place of the name, up to a version."""


class Sessions(Protocol):
    """The logins; see storage/sessions.py."""

    def remove_of(self, user_id: str, deadline: float) -> None:
        """End all logins of a user."""


class Webhooks(Protocol):
    """The subscriptions; see storage/webhooks.py."""

    def within(self, seconds: float) -> Webhooks:
        """The same, with less time for each method."""

    def remove_of(self, user_id: str) -> bool:
        """End all subscriptions of a user. False: there were none."""


def new_pseudonym() -> str:
    """128 random bits. The colon keeps it apart from all user ids that can have an account (RFC 7617, 2)."""
    return f"erased:{secrets.token_urlsafe(16)}"


class Erasure:
    """Erases users."""

    def __init__(
        self,
        accounts: Accounts,
        sessions: Sessions,
        webhooks: Webhooks,
        names: Names,
        manager: TicketManager,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._webhooks = webhooks
        self._names = names
        self._manager = manager
        self._clock = clock

    def erase(self, user_id: str, by: str, deadline: float) -> bool:
        """Erase a user, or go on with it where it was interrupted. False: the name stands nowhere.

        `by` is who asks for it. `deadline` is a time on the clock's `monotonic()`, without the pause for other workers,
        which takes `RECENT_S` more. Raises `StorageUnavailable` past it, and `LedgerDamaged` when all other events have
        been done: then repeat it.
        """
        account = self._accounts.fresh(user_id, deadline)
        pseudonym = account and account.pseudonym or new_pseudonym()
        if account is not None:
            if account.pseudonym is None and self._accounts.change(account, deadline, pseudonym=pseudonym) is None:
                return self.erase(user_id, by, deadline)  # somebody has changed it meanwhile: have another look
            # Until now another worker may have let the user book.
            self._clock.sleep(RECENT_S)
            deadline += RECENT_S
        had_webhooks = self._webhooks.within(self._left_s(deadline)).remove_of(user_id)
        event_ids = self._names.events_naming(user_id, deadline)
        damage: LedgerDamaged | None = None
        for event_id in event_ids:
            try:
                self._erase_in(event_id, user_id, pseudonym, by, deadline)
            except LedgerDamaged as found:
                log.critical(
                    "ledger damaged, a name is left in it", extra={"event_id": event_id, "finding": found.finding}
                )
                damage = damage or found
        if damage is not None:
            raise damage
        self._sessions.remove_of(user_id, deadline)
        self._accounts.remove(user_id, deadline)
        return account is not None or had_webhooks or bool(event_ids)

    def _erase_in(self, event_id: str, user_id: str, pseudonym: str, by: str, deadline: float) -> None:
        command = Pseudonymize(
            event_id=event_id, by=pseudonym if by == user_id else by, user_id=user_id, pseudonym=pseudonym
        )
        given = self._manager.execute(command, within_s=self._left_s(deadline)).event
        assert given is not None
        self._names.replace(event_id, given.version, user_id, pseudonym, deadline)

    def _left_s(self, deadline: float) -> float:
        """What is left. Raises `StorageUnavailable` where that is too little to learn anything from."""
        left_s = deadline - self._clock.monotonic()
        if left_s < EVENT_S_MIN:
            raise StorageUnavailable
        return left_s
