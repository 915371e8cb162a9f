"""Another role or password, and the end of all that rests on the old one."""

from __future__ import annotations

import math

from .domain.accounts import Account, Role
from .services import LEFT_S_MIN, Services


def change_account(
    parts: Services,
    account: Account,
    deadline: float = math.inf,
    *,
    role: Role | None = None,
    password_hash: str | None = None,
) -> Account | None:
    """Give a user another role or password. It ends all tokens, and a role other than `admin` ends the webhooks.

    None when `account` is not what it is now any more: somebody else has changed it. `deadline` is a time on the
    clock's `monotonic()`. Raises `StorageUnavailable` past it: then repeat it.
    """
    changed = parts.accounts.change(account, deadline, role=role, password_hash=password_hash)
    if changed is None:
        return None
    parts.sessions.remove_of(account.user_id, deadline)
    if role not in (None, Role.ADMIN):  # they tell what this role may perhaps not read
        left_s = deadline - parts.clock.monotonic()
        parts.webhooks.within(max(LEFT_S_MIN, left_s)).remove_of(account.user_id)
    return changed
