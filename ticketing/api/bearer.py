"""Access tokens: JSON Web Tokens (RFC 7519), signed with HS256 and the key of the settings.

    {"iss": "ticketing", "sub": "ada", "role": "customer", "stamp": "…", "iat": 1798761600, "exp": 1798762500}

`role` is for the client to read. What a token lets do is what its account may do now, and a token whose account has
another `stamp` by now is worth nothing: see accounts.py.
"""

from __future__ import annotations

from datetime import timedelta

import jwt
from jwt.types import Options

from ..clock import Clock
from ..domain.accounts import Account

ISSUER = "ticketing"
ALGORITHM = "HS256"
LIFETIME_S = 900
CLAIMS = ["iss", "sub", "role", "stamp", "iat", "exp"]


class AccessTokens:
    """Issues and reads access tokens. Without a key it issues none, and none is valid."""

    def __init__(self, key: str | None, clock: Clock) -> None:
        self._key = key
        self._clock = clock

    @property
    def are_configured(self) -> bool:
        """Whether there is a key to sign with."""
        return self._key is not None

    def issue(self, account: Account) -> str:
        """A token of this account, valid for `LIFETIME_S`. Only where `are_configured`."""
        now = self._clock.now()
        claims = {
            "iss": ISSUER,
            "sub": account.user_id,
            "role": account.role.value,
            "stamp": account.stamp,
            "iat": int(now.timestamp()),
            "exp": int((now + timedelta(seconds=LIFETIME_S)).timestamp()),
        }
        return jwt.encode(claims, self._key or "", ALGORITHM)

    def read(self, token: str) -> tuple[str, str] | None:
        """The user and the stamp that a token was issued for; None for what is no valid token."""
        if self._key is None:
            return None
        # The service's clock is not always the machine's: times are compared here.
        options: Options = {"require": CLAIMS, "verify_exp": False, "verify_iat": False, "verify_nbf": False}
        try:
            claims = jwt.decode(token, self._key, [ALGORITHM], options=options, issuer=ISSUER)
        except (jwt.InvalidTokenError, ValueError):
            return None
        user_id, stamp, expires = claims["sub"], claims["stamp"], claims["exp"]
        if not (isinstance(stamp, str) and isinstance(expires, int)):
            return None
        return (user_id, stamp) if self._clock.now().timestamp() < expires else None
