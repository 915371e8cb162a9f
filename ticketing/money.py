"""Prices as people write them -> exact amounts, with as many digits as their currency has."""

from __future__ import annotations

import re
from decimal import Decimal

from babel.numbers import get_currency_precision, is_currency

from .domain.tickets import FREE

PRICE_PATTERN = r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,4})?$"


def price_of(digits: str, currency: str | None) -> Decimal:
    """The amount, like 12.50 of "12.5" and "EUR". None is a currency for what is free.

    Raises ValueError for what is no amount of that currency.
    """
    if not re.fullmatch(PRICE_PATTERN.strip("^$"), digits):
        raise ValueError("Must be a decimal like 12.50, of at most nine digits before the point.")
    price = Decimal(digits)
    if currency is None:
        if price:
            raise ValueError("Needs a currency.")
        return FREE
    precision = get_currency_precision(currency)
    exact = price.quantize(Decimal(1).scaleb(-precision))
    if exact != price:
        raise ValueError(f"{currency} has {precision} digits after the point.")
    return exact


def is_currency_code(code: str) -> bool:
    """Whether this is a currency's code (ISO 4217)."""
    return re.fullmatch("[A-Z]{3}", code) is not None and bool(is_currency(code))
