"""Accounts: who is it, is that still true, and their changes.

What was proven once, a password or a token, holds as long as the account has the same stamp. That is asked with
every request, and answered from memory for `RECENT_S`: so a change ends old credentials at once in the worker that
made it and within that time in the others. A refusal never rests on memory: who has just been registered or has
just changed a password elsewhere is found.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from .clock import Clock
from .domain.accounts import Account, Role
from .errors import StorageUnavailable

RECENT_S = 3.0
"""For so long another worker may take an account for what it was."""

RECENT_MAX = 20_000

NAMES_MAX = 10_000
"""As long as there are no more accounts than this, a worker knows all their names."""

NAMES_RETRY_S = 60.0
"""When there are more it counts them again after this time."""

LOOKUP_DEADLINE_S = 4.0
"""Long enough for a new primary to be elected, and something is left for the rest of the request."""

CHANGE_DEADLINE_S = 3.0


class Users(Protocol):
    """Where the accounts are kept; see storage/users.py."""

    def find(self, user_ids: Iterable[str], deadline: float) -> dict[str, Account]:
        """Those of these users who have an account."""

    def find_by_key(self, key: bytes, deadline: float) -> Account | None:
        """The account that was registered with this key, and not changed since."""

    def page(self, after: str, limit: int, deadline: float) -> list[Account]:
        """The first `limit` accounts with a password after an id, by id."""

    def ids(self, limit: int, deadline: float) -> list[str]:
        """The ids of `limit` accounts at most."""

    def add(self, account: Account, deadline: float) -> bool:
        """Write a new account. False: its name is taken."""

    def replace(self, account: Account, stamp: str, deadline: float) -> bool:
        """Write an account in the place of itself as it was with `stamp`. False: it was changed meanwhile."""

    def remove(self, account: Account, deadline: float) -> None:
        """Forget an account that is being erased, if nobody else has its name by now."""


def new_stamp() -> str:
    """96 random bits: no two stamps are the same."""
    return secrets.token_urlsafe(12)


class Accounts:
    """The accounts of the database and the first admin, who is in the settings alone. Thread-safe.

    Every method raises `StorageUnavailable` when MongoDB does not answer in time: by `deadline`, a time on the clock's
    `monotonic()`, and within the seconds that are told above. The first admin needs no database.
    """

    def __init__(self, users: Users, clock: Clock, first_admin: Account | None = None) -> None:
        self.first_admin = first_admin
        self._users = users
        self._clock = clock
        self._found = SharedLookup(self._find, clock)
        # Guards what follows. `_recent`: user id -> (the account, None where there is none; until when to believe it);
        # `_changes`: how many accounts were changed here.
        self._lock = threading.Lock()
        self._changes = 0
        # All names of the database and until when to believe that there are no others; None where there are too many.
        self._names: tuple[frozenset[str] | None, float] = (frozenset(), 0.0)
        self._recent: OrderedDict[str, tuple[Account | None, float]] = OrderedDict()

    def exist(self, deadline: float = math.inf) -> bool:
        """Whether anybody could give credentials at all."""
        return self.first_admin is not None or bool(self.page("", 1, deadline))

    def is_first_admin(self, user_id: str) -> bool:
        """Whether this is the account of the settings, which cannot be changed here."""
        return self.first_admin is not None and self.first_admin.user_id == user_id

    def fresh(self, user_id: str, deadline: float = math.inf) -> Account | None:
        """The account of a user as it is now, None where there is none."""
        if self.first_admin is not None and self.is_first_admin(user_id):
            return self.first_admin
        # Twice as long, for it may have to wait for the look-up before its own.
        return self._found(user_id, self._within(2 * LOOKUP_DEADLINE_S, deadline))

    def registered(self, user_id: str, deadline: float = math.inf) -> Account | None:
        """The same, but none that a name has only while it is being erased."""
        account = self.fresh(user_id, deadline)
        return account if account is not None and account.password_hash else None

    def recent(self, user_id: str, deadline: float = math.inf) -> Account | None:
        """The account of a user as it is now or was within the last `RECENT_S`."""
        now_s = self._clock.monotonic()
        account, until_s = self._recent.get(user_id, (None, 0.0))
        if now_s < until_s:
            return account
        names, until_s = self._names
        if names is not None and now_s < until_s and user_id not in names and not self.is_first_admin(user_id):
            return None
        return self.fresh(user_id, deadline)

    def still(self, user_id: str, stamp: str, deadline: float = math.inf) -> Account | None:
        """The account of a user if it still has this stamp."""
        account = self.recent(user_id, deadline)
        if account is None or account.stamp != stamp:
            account = self.fresh(user_id, deadline)
        return account if account is not None and account.stamp == stamp else None

    def page(self, after: str, limit: int, deadline: float = math.inf) -> list[Account]:
        """The first `limit` accounts of the database whose ids come after `after`, by id: such as are registered."""
        return self._users.page(after, limit, self._within(LOOKUP_DEADLINE_S, deadline))

    def registered_with(self, key: bytes, deadline: float = math.inf) -> Account | None:
        """The account that was registered with this digest of an Idempotency-Key, and is as it was then."""
        return self._users.find_by_key(key, self._within(LOOKUP_DEADLINE_S, deadline))

    def register(
        self,
        user_id: str,
        role: Role,
        password_hash: str,
        deadline: float = math.inf,
        *,
        key: bytes | None = None,
        pseudonym: str | None = None,
    ) -> Account | None:
        """A new account; None when the name is taken. `key` is the digest of the request's Idempotency-Key."""
        if self.is_first_admin(user_id):
            return None
        account = Account(user_id, role, password_hash, new_stamp(), pseudonym, key)
        added = self._users.add(account, self._within(CHANGE_DEADLINE_S, deadline))
        self.forget(user_id)
        return account if added else None

    def change(
        self,
        account: Account,
        deadline: float = math.inf,
        *,
        role: Role | None = None,
        password_hash: str | None = None,
        pseudonym: str | None = None,
    ) -> Account | None:
        """Change what is given of an account, which ends all that rests on what it was.

        None when `account` is not what it is now any more: somebody else has changed it.
        """
        changed = replace(
            account,
            role=role or account.role,
            password_hash=password_hash or account.password_hash,
            pseudonym=pseudonym or account.pseudonym,
            stamp=new_stamp(),
            key=None,  # whoever repeats the registration would be told of an account that is another by now
        )
        replaced = self._users.replace(changed, account.stamp, self._within(CHANGE_DEADLINE_S, deadline))
        self.forget(account.user_id)
        return changed if replaced else None

    def remove(self, account: Account, deadline: float = math.inf) -> None:
        """Forget an account that is being erased, if nobody else has its name by now."""
        self._users.remove(account, self._within(CHANGE_DEADLINE_S, deadline))
        self.forget(account.user_id)

    def forget(self, user_id: str) -> None:
        """Take nothing from memory about this user the next time."""
        with self._lock:
            self._changes += 1
            self._recent.pop(user_id, None)
            if self._names[0] is not None:
                self._names = (frozenset(), 0.0)

    def _find(self, user_ids: Iterable[str], deadline: float) -> dict[str, Account]:
        began_s, changes = self._clock.monotonic(), self._changes
        deadline = self._within(LOOKUP_DEADLINE_S, deadline)
        found = self._users.find(user_ids, deadline)
        ids = self._users.ids(NAMES_MAX + 1, deadline) if began_s >= self._names[1] else None
        with self._lock:
            if self._changes != changes:
                return found  # it may be older than a change that was made here meanwhile
            if ids is not None:
                is_all = len(ids) <= NAMES_MAX
                self._names = (frozenset(ids) if is_all else None, began_s + (RECENT_S if is_all else NAMES_RETRY_S))
            for user_id in user_ids:
                self._recent.pop(user_id, None)
                self._recent[user_id] = (found.get(user_id), began_s + RECENT_S)
            while len(self._recent) > RECENT_MAX:
                self._recent.popitem(last=False)
        return found

    def _within(self, seconds: float, deadline: float) -> float:
        return min(deadline, self._clock.monotonic() + seconds)


class SharedLookup:
    """Looks users up, all who ask while a look-up is under way with the one that follows.

    A crowd that books without credentials asks for a new name with each request; so it costs a round trip a batch.
    `find` gets a deadline on the clock's `monotonic()`: that of whoever asked first.
    """

    def __init__(self, find: Callable[[Iterable[str], float], dict[str, Account]], clock: Clock) -> None:
        self._find = find
        self._clock = clock
        self._lock = threading.Lock()  # guards `_next`
        self._next = _Batch()
        self._finding = threading.Lock()  # held by the one batch that is under way

    def __call__(self, user_id: str, deadline: float) -> Account | None:
        """The account as it is at a moment after this call began.

        Raises what `find` raises, and `StorageUnavailable` past the deadline.
        """
        with self._lock:
            batch = self._next
            leads = not batch.user_ids
            batch.user_ids.add(user_id)
        if leads:
            self._lead(batch, deadline)
        if not batch.is_done.wait(self._left_s(deadline)):
            raise StorageUnavailable
        if batch.error is not None:
            raise batch.error
        return batch.found.get(user_id)

    def _lead(self, batch: _Batch, deadline: float) -> None:
        is_turn = False
        try:
            is_turn = self._finding.acquire(timeout=self._left_s(deadline))
            with self._lock:
                self._next = _Batch()  # whoever comes from now on must not be told what was before
            if is_turn:
                batch.found = self._find(batch.user_ids, deadline)
                batch.error = None
        except Exception as error:
            batch.error = error
        finally:  # even where the worker is being killed: nobody is left waiting
            if is_turn:
                self._finding.release()
            batch.is_done.set()

    def _left_s(self, deadline: float) -> float:
        return max(0.0, deadline - self._clock.monotonic())


class _Batch:
    def __init__(self) -> None:
        self.user_ids: set[str] = set()
        self.found: dict[str, Account] = {}
        self.error: Exception | None = StorageUnavailable()
        self.is_done = threading.Event()
