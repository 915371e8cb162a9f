"""Who has an account, and what it is for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PSEUDONYM_PREFIX = "erased:"
"""The colon keeps pseudonyms apart from all user ids that can have an account (RFC 7617, 2)."""


class Role(StrEnum):
    """What an account is for: booking for oneself, running one's own events, or everything."""

    CUSTOMER = "customer"
    ORGANIZER = "organizer"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Account:
    """One who may call. `password_hash` is in the form of werkzeug.security; empty where there is no password.

    `stamp` is random, and another one after each change of password or role: what was proven under an old stamp
    is worth nothing any more. `pseudonym` is set while the account is being erased; then it may do nothing else.
    `key` is the digest of the Idempotency-Key with which it was registered, until something of it is changed.
    """

    user_id: str
    role: Role
    password_hash: str
    stamp: str
    pseudonym: str | None = None
    key: bytes | None = None
