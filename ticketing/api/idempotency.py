"""The header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): one effect, one answer.

The key is scoped to caller, method and path, and travels with the command into the event's ledger, in the same
commit as its effect. So it is as durable as the booking, and holds for every worker.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from flask import request

from ..domain.model import RequestKey
from .problems import ApiProblem

HEADER = "Idempotency-Key"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_DIGEST_BYTES = 16


def request_key(caller: str | None, body: dict[str, Any]) -> RequestKey | None:
    """The key of the current request, if it has one. Raises `ApiProblem` 400 for a malformed one."""
    scope = key_scope(caller)
    if scope is None:
        return None
    canonical = json.dumps(body, sort_keys=True, ensure_ascii=False, default=str)
    return RequestKey(key=_digest(scope), fingerprint=_digest(canonical))


def key_scope(caller: str | None) -> str | None:
    """The key of the current request with all that it is scoped to. Raises `ApiProblem` 400."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise ApiProblem.named("invalid_idempotency_key")
    # JSON keeps the parts apart, whatever characters they hold.
    return json.dumps([caller, request.method, request.path, key])


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()
