"""Another role or password, and the end of all that rests on the old one; or the end of the name."""

from __future__ import annotations

import math

from .domain.accounts import Account, Role
from .errors import LedgerDamaged
from .passwords import normal
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


def erase_name(parts: Services, user_id: str, by: str | None, deadline: float) -> bool:
    """Erase a user, in the normal form of the name and just as it is here: earlier versions booked for it like that.

    `by` is who asks for it; None: as if it were himself. False: the name stands nowhere. Raises what `Erasure.erase`
    raises; `LedgerDamaged` when both forms have been looked for.
    """
    was_there, damage = False, None
    for form in dict.fromkeys((user_id, normal(user_id))):  # that of accounts last, for the name is free then
        try:
            was_there |= parts.erasure.erase(form, form if by is None else by, deadline)
        except LedgerDamaged as found:
            damage = damage or found
    if damage is not None:
        raise damage
    return was_there
