"""Which passwords are taken. How they are hashed and checked is the business of api/auth.py."""

from __future__ import annotations

import unicodedata

LENGTH_MIN = 12
LENGTH_MAX = 128

GUESSES_MIN = 100_000
"""What an attacker who knows the common ones, their variations and the user's name finds within so many tries."""

ESTIMATED_MAX = 40
"""Characters looked at, from the first on: the estimate takes 30 ms for them and a second for all 128."""


def normal(text: str) -> str:
    """The one form of names and passwords that look alike to people: NFC, as RFC 8265 has it for passwords."""
    return unicodedata.normalize("NFC", text)


def weakness(password: str, user_id: str) -> str | None:
    """Why a password is not taken, None for a good one. Both in `normal` form.

    The length counts, not the kinds of characters, and common ones are refused (NIST SP 800-63B, 3.1.1.2).
    """
    if not LENGTH_MIN <= len(password) <= LENGTH_MAX:
        return f"Must have {LENGTH_MIN} to {LENGTH_MAX} characters."
    if password.casefold() == user_id.casefold():
        return "Must not be the user id."
    # Here, for it takes 14 MB and 0.1 s: most processes never need it.
    from zxcvbn import zxcvbn

    if zxcvbn(password[:ESTIMATED_MAX], user_inputs=[user_id])["guesses"] < GUESSES_MIN:
        return "Is among the first that are guessed: too common."
    return None
