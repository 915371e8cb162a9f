"""Accounts in memory: what is asked of the database, how old an answer may be, and what a crowd costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.conftest import SteppingClock
from tests.api.scratch import FakeUsers
from tests.service.running import eventually
from ticketing import accounts as module
from ticketing.accounts import RECENT_S, Accounts, SharedLookup, new_stamp
from ticketing.clock import SystemClock
from ticketing.domain.accounts import Account, Role
from ticketing.errors import StorageUnavailable

ADMIN = Account("admin", Role.ADMIN, "hash", "stamp")


@pytest.fixture
def users() -> FakeUsers:
    return FakeUsers()


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock()


@pytest.fixture
def accounts(users: FakeUsers, clock: SteppingClock) -> Accounts:
    return Accounts(users, clock, ADMIN)


def test_the_first_admin_needs_no_database(accounts: Accounts, users: FakeUsers) -> None:
    """He is in the settings: he gets in while MongoDB is away."""
    assert accounts.fresh("admin") is ADMIN and accounts.still("admin", "stamp") is ADMIN
    assert users.lookups == 0


def test_an_answer_is_kept_for_a_time(accounts: Accounts, users: FakeUsers, clock: SteppingClock) -> None:
    """That there is no account too; a hundred bookings under a name cost one look-up in that time."""
    for _ in range(100):
        assert accounts.recent("ada") is None
    assert users.lookups == 1
    clock.sleep(RECENT_S)
    accounts.recent("ada")
    assert users.lookups == 2


def test_a_crowd_of_new_names_costs_a_look_in_a_time(
    accounts: Accounts, users: FakeUsers, clock: SteppingClock
) -> None:
    """All names that have an account are known for that time; who is among them is looked up."""
    users.accounts["ben"] = Account("ben", Role.CUSTOMER, "hash", new_stamp())
    for number in range(100):
        assert accounts.recent(f"user {number}") is None
    assert (users.lookups, users.countings) == (1, 1)
    assert accounts.recent("ben") is users.accounts["ben"] and accounts.recent("admin") is ADMIN
    users.accounts["cleo"] = Account("cleo", Role.CUSTOMER, "hash", new_stamp())  # by another worker
    clock.sleep(RECENT_S)
    assert accounts.recent("cleo") is users.accounts["cleo"]


def test_too_many_names_are_not_kept(
    accounts: Accounts, users: FakeUsers, clock: SteppingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then each name is looked up, and whether there are still too many is asked now and then."""
    monkeypatch.setattr(module, "NAMES_MAX", 1)
    for name in ("ben", "cleo"):
        accounts.register(name, Role.CUSTOMER, "hash")
    users.lookups = 0
    for number in range(10):
        assert accounts.recent(f"user {number}") is None
    assert (users.lookups, users.countings) == (10, 1)
    users.accounts.pop("ben")
    clock.sleep(module.NAMES_RETRY_S)
    for number in range(10):
        assert accounts.recent(f"user {number}") is None
    assert (users.lookups, users.countings) == (11, 2)


def test_no_refusal_rests_on_memory(accounts: Accounts, users: FakeUsers) -> None:
    """Who has been registered, or changed, by another worker a moment ago is found."""
    assert accounts.recent("ada") is None
    account = Account("ada", Role.CUSTOMER, "hash", new_stamp())
    users.accounts["ada"] = account
    assert accounts.still("ada", account.stamp) is account
    users.accounts["ada"] = changed = Account("ada", Role.CUSTOMER, "another", new_stamp())
    assert accounts.still("ada", account.stamp) is account  # for a time: another worker has changed it
    assert accounts.still("ada", changed.stamp) is changed
    assert accounts.still("ada", account.stamp) is None


def test_a_change_is_felt_at_once_where_it_was_made(accounts: Accounts) -> None:
    """And removal too."""
    account = accounts.register("ada", Role.CUSTOMER, "hash")
    assert account is not None and accounts.recent("ada") == account
    changed = accounts.change(account, role=Role.ADMIN)
    assert changed is not None and accounts.recent("ada") == changed
    assert accounts.still("ada", account.stamp) is None
    accounts.remove(changed)
    assert accounts.recent("ada") is None


def test_a_look_that_was_under_way_does_not_bring_back_what_was(
    accounts: Accounts, users: FakeUsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read before the change and returns after it: it is not kept."""
    account = accounts.register("ada", Role.CUSTOMER, "hash")
    assert account is not None
    real_find = users.find

    def find(user_ids: Iterable[str], deadline: float) -> dict[str, Account]:
        monkeypatch.setattr(users, "find", real_find)
        found = real_find(user_ids, deadline)
        accounts.change(account, password_hash="another")
        return found

    monkeypatch.setattr(users, "find", find)
    accounts.fresh("ada")
    assert accounts.still("ada", account.stamp) is None


def test_memory_is_bounded(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names a crowd thinks of."""
    monkeypatch.setattr(module, "RECENT_MAX", 10)
    monkeypatch.setattr(module, "NAMES_MAX", -1)
    for number in range(100):
        accounts.recent(f"user {number}")
    assert len(accounts._recent) == 10


class SlowFind:
    """Finds nobody, when it is let. Keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[set[str]] = []
        self.may_go_on = threading.Semaphore(0)
        self.error: Exception | None = None

    def __call__(self, user_ids: Iterable[str], deadline: float) -> dict[str, Account]:
        self.asked.append(set(user_ids))
        self.may_go_on.acquire()
        if self.error is not None:
            raise self.error
        return {"ada": ADMIN}


def test_a_crowd_shares_its_look_ups() -> None:
    """While one is under way all others gather for the next: a hundred names cost two round trips."""
    find = SlowFind()
    lookup = SharedLookup(find, SystemClock())
    with ThreadPoolExecutor(101) as threads:
        first = threads.submit(lookup, "ada", later())
        eventually(lambda: len(find.asked) == 1)
        others = [threads.submit(lookup, f"user {number}", later()) for number in range(100)]
        eventually(lambda: len(lookup._next.user_ids) == 100)
        find.may_go_on.release(2)
        assert first.result() is ADMIN
        assert {other.result() for other in others} == {None}
    assert [len(asked) for asked in find.asked] == [1, 100]


def test_who_comes_while_a_look_up_is_under_way_is_not_told_what_was_before() -> None:
    """The same name is looked up again: the first may have been read already."""
    find = SlowFind()
    lookup = SharedLookup(find, SystemClock())
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(lookup, "ada", later())
        eventually(lambda: len(find.asked) == 1)
        second = threads.submit(lookup, "ada", later())
        eventually(lambda: bool(lookup._next.user_ids))
        find.may_go_on.release(2)
        assert first.result() is second.result() is ADMIN
    assert find.asked == [{"ada"}, {"ada"}]


def test_all_are_told_of_a_failure() -> None:
    """And the next look-up is tried again."""
    find = SlowFind()
    lookup = SharedLookup(find, SystemClock())
    find.error = StorageUnavailable()
    find.may_go_on.release(2)
    with pytest.raises(StorageUnavailable):
        lookup("ada", later())
    find.error = None
    assert lookup("ada", later()) is ADMIN


def test_nobody_waits_longer_than_he_may() -> None:
    """Not who has joined a look-up, nor who is to make the next one when that is done; and the next one is made."""
    find = SlowFind()
    lookup = SharedLookup(find, SystemClock())
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(lookup, "ada", later())
        eventually(lambda: len(find.asked) == 1)
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                lookup("ben", time.monotonic() + 0.05)
        find.may_go_on.release(2)
        assert first.result() is ADMIN
    assert lookup("ada", later()) is ADMIN
    assert find.asked == [{"ada"}, {"ada"}]


def later() -> float:
    """A deadline that is never reached."""
    return time.monotonic() + 60.0
