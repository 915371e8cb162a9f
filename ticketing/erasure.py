"""Erasing a user: the account goes, and in all ledgers a pseudonym takes the place of the name.

In this order, so that whatever is interrupted can be repeated, and ends the same:

    1. the account is marked with the pseudonym, and may do nothing else from now on, in other workers a little later; a
       name without an account gets one for as long, which nobody has the password of
    2. his webhooks end: he is told of nothing any more
    3. in each event that names the user a transition `pseudonymized` gives his orders to the pseudonym, so that all
       workers forget the name, and then the name is replaced in what was before it: who has it later is another
    4. what else was made of those commits, the sessions and the account are removed, and the name is free

An event whose ledger is damaged holds up no other: the fourth step alone waits for its repair.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Protocol

from .accounts import RECENT_S, Accounts
from .clock import Clock, tries
from .domain.accounts import PSEUDONYM_PREFIX, Account, Role
from .domain.commands import Pseudonymize
from .errors import AlreadyBooked, EventNotFound, LedgerDamaged, StorageUnavailable
from .manager import TicketManager

EVENT_S_MIN = 0.5
"""Who has less time left for an event leaves it to the repeat: the manager would take the storage for away."""


ROUNDS = 2
"""In the second one there is as a rule nothing, or what another worker had let in and was slow to write."""


class Names(Protocol):
    """The names in the ledgers; see storage/names.py."""

    def events_naming(self, user_id: str, deadline: float) -> list[str]:
        """The events that name a user."""

    def replace(self, event_id: str, version: int, user_id: str, pseudonym: str, deadline: float) -> None:
        """Put the pseudonym in the place of the name, up to a version."""

    def remove_copies(self, pseudonym: str, deadline: float) -> None:
        """Remove what was made of commits in which this pseudonym has taken the place of a name since."""


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
    """128 random bits."""
    return f"{PSEUDONYM_PREFIX}{secrets.token_urlsafe(16)}"


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
        account = self._marked(user_id, deadline)
        if account is None:
            return False
        assert account.pseudonym is not None
        # Until now another worker may have let the user book.
        self._clock.sleep(RECENT_S)
        deadline += RECENT_S
        self._webhooks.within(self._left_s(deadline)).remove_of(user_id)
        for _ in range(ROUNDS):
            self._erase_in_ledgers(account, by, deadline)
        left = self._names.events_naming(user_id, deadline)
        if self._is_marked(account, deadline):
            if left:
                raise self._doubted(left[0], "a name stands where no reader of the event finds it")
            self._names.remove_copies(account.pseudonym, deadline)
            self._sessions.remove_of(user_id, deadline)
            self._accounts.remove(account, deadline)
        return True

    def _marked(self, user_id: str, deadline: float) -> Account | None:
        """The account with its pseudonym. None: the name stands nowhere."""
        for _ in tries(self._clock, deadline):  # again where somebody was faster
            account = self._accounts.fresh(user_id, deadline)
            if account is not None and account.pseudonym is not None:
                return account
            if account is not None:
                marked = self._accounts.change(account, deadline, pseudonym=new_pseudonym())
            elif self._stands_anywhere(user_id, deadline):
                marked = self._accounts.register(user_id, Role.CUSTOMER, "", deadline, pseudonym=new_pseudonym())
            else:
                return None
            if marked is not None:
                return marked
        raise StorageUnavailable

    def _stands_anywhere(self, user_id: str, deadline: float) -> bool:
        named = self._names.events_naming(user_id, deadline)
        return bool(named) or self._webhooks.within(self._left_s(deadline)).remove_of(user_id)

    def _is_marked(self, account: Account, deadline: float) -> bool:
        """Whether it is still there; else another erasure has done it all, and who has the name is somebody else."""
        now = self._accounts.fresh(account.user_id, deadline)
        return now is not None and now.pseudonym == account.pseudonym

    def _erase_in_ledgers(self, account: Account, by: str, deadline: float) -> None:
        """In all events, as far as their ledgers are sound. Raises the first `LedgerDamaged` at the end."""
        damages: list[LedgerDamaged] = []
        for event_id in self._names.events_naming(account.user_id, deadline):
            if not self._is_marked(account, deadline):
                return
            try:
                self._erase_in(event_id, account, by, deadline)
            except LedgerDamaged as damage:
                damages.append(damage)
        if damages:
            raise damages[0]

    def _erase_in(self, event_id: str, account: Account, by: str, deadline: float) -> None:
        user_id, pseudonym = account.user_id, account.pseudonym
        assert pseudonym is not None
        by = pseudonym if by == user_id else by
        command = Pseudonymize(event_id=event_id, by=by, user_id=user_id, pseudonym=pseudonym)
        try:
            version = self._pseudonymize(command, deadline)
        except AlreadyBooked:  # this was done before, and broke off or met one more order that was let in long ago
            return self._erase_in(event_id, replace(account, pseudonym=new_pseudonym()), by, deadline)
        except EventNotFound as error:
            raise self._doubted(event_id, "a name stands in a commit of no event") from error
        try:
            self._names.replace(event_id, version, user_id, pseudonym, deadline)
        except LedgerDamaged as damage:
            raise self._doubted(event_id, damage.finding) from damage

    def _pseudonymize(self, command: Pseudonymize, deadline: float) -> int:
        """The version of the event at which no order of it is the name's any more."""
        for _ in tries(self._clock, deadline):
            left_s = self._left_s(deadline)
            try:
                given = self._manager.execute(command, within_s=left_s).event
            except StorageUnavailable:
                continue  # a long ledger takes several requests to fold
            assert given is not None
            return given.version
        raise StorageUnavailable

    def _doubted(self, event_id: str, finding: str) -> LedgerDamaged:
        """What only this erasure has seen, the manager should know."""
        damage = LedgerDamaged(event_id, finding)
        self._manager.doubt(damage)
        return damage

    def _left_s(self, deadline: float) -> float:
        """What is left. Raises `StorageUnavailable` where that is too little to learn anything from."""
        left_s = deadline - self._clock.monotonic()
        if left_s < EVENT_S_MIN:
            raise StorageUnavailable
        return left_s
