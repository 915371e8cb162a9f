"""Accounts and sessions in MongoDB: one of each name, and right whatever becomes of an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database
from pymongo.errors import AutoReconnect

from ticketing.domain.accounts import Account, Role
from ticketing.errors import StorageUnavailable
from ticketing.storage.sessions import Session, Sessions
from ticketing.storage.users import Users, durable

from .fakes import Document, FakeClock

ADA = Account("ada", Role.CUSTOMER, "hash", "stamp 1")
UNTIL = datetime(2027, 1, 1, tzinfo=UTC)
SESSION = Session(b"f" * 16, "ada", "stamp 1", b"1" * 32, UNTIL)


class LosesAnswers:
    """A collection whose next calls are carried out, and whose answers do not arrive; or which is away."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection
        self.lost = 0
        self.is_away = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._collection, name)

        def call(*args: Any, **options: Any) -> Any:
            if self.is_away:
                raise AutoReconnect("away")
            answer = method(*args, **options)
            if self.lost:
                self.lost -= 1
                raise AutoReconnect("lost")
            return answer

        return call


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def collection(database: Database[Document]) -> Any:
    return LosesAnswers(durable(database, "things"))


@pytest.fixture
def users(collection: Any, clock: FakeClock) -> Users:
    return Users(collection, clock)


@pytest.fixture
def sessions(collection: Any, clock: FakeClock) -> Sessions:
    return Sessions(collection, clock)


DEADLINE = 1_006.0


def test_an_account_comes_back_as_it_was(users: Users) -> None:
    """With and without a pseudonym; who is not there is left out."""
    other = Account("ben", Role.ADMIN, "hash", "stamp", "erased:1")
    assert users.add(ADA, DEADLINE) and users.add(other, DEADLINE)
    assert users.find(["ada", "ben", "cyd"], DEADLINE) == {"ada": ADA, "ben": other}
    assert users.page("", 5, DEADLINE) == [ADA, other]
    assert users.page("ada", 5, DEADLINE) == [other]
    assert sorted(users.ids(5, DEADLINE)) == ["ada", "ben"] and len(users.ids(1, DEADLINE)) == 1
    users.remove(replace(ADA, pseudonym="erased:1"), DEADLINE)
    assert users.find(["ada"], DEADLINE) == {"ada": ADA}, "of somebody else by now"
    users.remove(ADA, DEADLINE)
    assert users.find(["ada"], DEADLINE) == {}


def test_a_name_is_taken_once(users: Users) -> None:
    """Nothing of the second is written."""
    assert users.add(ADA, DEADLINE)
    assert not users.add(replace(ADA, stamp="another"), DEADLINE)
    assert users.find(["ada"], DEADLINE) == {"ada": ADA}


def test_a_lost_answer_is_no_taken_name(users: Users, collection: Any) -> None:
    """The first try has arrived: it is found to be ours, and that of somebody else is not."""
    collection.lost = 1
    assert users.add(ADA, DEADLINE)
    collection.lost = 1
    assert not users.add(replace(ADA, stamp="another"), DEADLINE)


def test_a_change_rests_on_what_was_seen(users: Users, collection: Any) -> None:
    """Of two changes of the same account one is made; a lost answer changes nothing about that."""
    users.add(ADA, DEADLINE)
    collection.lost = 1
    changed = replace(ADA, role=Role.ADMIN, stamp="stamp 2")
    assert users.replace(changed, ADA.stamp, DEADLINE)
    assert not users.replace(replace(ADA, stamp="stamp 3"), ADA.stamp, DEADLINE)
    assert not users.replace(replace(ADA, user_id="ben"), ADA.stamp, DEADLINE)
    assert users.find(["ada", "ben"], DEADLINE) == {"ada": changed}


def test_a_session_is_rotated_once(sessions: Sessions, collection: Any) -> None:
    """By who has its newest secret; a lost answer does not take it from him."""
    collection.lost = 1
    sessions.add(SESSION)
    collection.lost = 1
    later = UNTIL + timedelta(days=1)
    rotated = sessions.rotate(SESSION.family, SESSION.digest, b"2" * 32, later)
    assert rotated is not None and rotated[:3] == SESSION[:3]
    assert sessions.rotate(SESSION.family, SESSION.digest, b"3" * 32, later) is None
    assert sessions.rotate(SESSION.family, b"2" * 32, b"3" * 32, later) == SESSION._replace(
        digest=b"2" * 32, expires_at=later
    )


def test_a_session_ends(sessions: Sessions) -> None:
    """By itself or with all others of its user; twice is no error."""
    for family in (b"1" * 16, b"2" * 16, b"3" * 16):
        sessions.add(SESSION._replace(family=family))
    sessions.remove(b"1" * 16)
    sessions.remove(b"1" * 16)
    assert sessions.rotate(b"1" * 16, SESSION.digest, b"x", UNTIL) is None
    sessions.remove_of("ada")
    assert sessions.rotate(b"2" * 16, SESSION.digest, b"x", UNTIL) is None


@pytest.mark.parametrize(
    "ask",
    [
        lambda users, sessions: users.find(["ada"], DEADLINE),
        lambda users, sessions: users.page("", 1, DEADLINE),
        lambda users, sessions: users.add(ADA, DEADLINE),
        lambda users, sessions: users.replace(ADA, "stamp", DEADLINE),
        lambda users, sessions: users.remove(ADA, DEADLINE),
        lambda users, sessions: sessions.add(SESSION),
        lambda users, sessions: sessions.rotate(b"f", b"1", b"2", UNTIL),
        lambda users, sessions: sessions.remove_of("ada"),
    ],
)
def test_a_storage_that_is_away(
    users: Users, sessions: Sessions, collection: Any, clock: FakeClock, ask: Callable[[Users, Sessions], Any]
) -> None:
    """Tried again until the deadline, then `StorageUnavailable`: nothing of the driver comes through."""
    collection.is_away = True
    with pytest.raises(StorageUnavailable):
        ask(users, sessions)
    assert clock.monotonic() in (DEADLINE, 1_003.0)
    assert len(clock.slept_s) > 5
