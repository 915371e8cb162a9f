"""GET /events/<event_id>/orders.csv."""

from __future__ import annotations

import csv
import io
import re

import pytest

from ticketing.api import exports
from ticketing.clock import SystemClock

from .conftest import ADMIN, EVENT_ID, PROBLEM, Api, refused
from .test_bookings import ORDER_MEMBERS


def rows(text: str) -> list[list[str]]:
    """The lines of a CSV file, which all end in CR LF."""
    assert text.endswith("\r\n")
    return list(csv.reader(io.StringIO(text, newline="")))


def test_all_orders_in_a_file(api: Api) -> None:
    """A line with the names, then each order as the list of orders has it; empty where that is null."""
    api.initialize(2)
    for user in ("ada", 'Ünï "the one", 日本', "cleo", "dan"):
        api.book(user)
    api.cancel("ada")
    answer = api.get(f"/events/{EVENT_ID}/orders.csv", staff=True)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="orders-{EVENT_ID}.csv"'
    header, *lines = rows(answer.data.decode())
    assert header == ORDER_MEMBERS
    orders = api.get(f"/events/{EVENT_ID}/orders", staff=True).json["items"]
    assert lines == [["" if value is None else str(value) for value in order.values()] for order in orders]
    assert lines[3][header.index("waiting_position")] == "1"


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "＝", "＋", "－", "＠"])
def test_a_name_is_no_formula(api: Api, sign: str) -> None:
    """What a spreadsheet would calculate begins with an apostrophe, quoted or not."""
    api.initialize(5)
    formulas = [f'{sign}HYPERLINK("http://evil.example","x")', f"{sign}1+1"]
    for formula in (*formulas, f"a{sign}1"):
        assert api.book(formula).status_code == 201
    _, *lines = rows(api.get(f"/events/{EVENT_ID}/orders.csv", staff=True).text)
    assert [line[2] for line in lines] == [*(f"'{formula}" for formula in formulas), f"a{sign}1"]


@pytest.mark.parametrize("name", ["ada;=1+1", "ada|+1", "a;b;@SUM(1)", "ada;－1"])
def test_a_sign_after_another_separator_is_no_formula(api: Api, name: str) -> None:
    """Where `;` or `|` ends a cell a formula would begin there: it gets an apostrophe. Other names stay as they are."""
    api.initialize(5)
    for user in (name, "ada; a=1", "Smith-Jones", "a,-b|c"):
        assert api.book(user).status_code == 201
    _, *lines = rows(api.get(f"/events/{EVENT_ID}/orders.csv", staff=True).text)
    guarded, *others = [line[2] for line in lines]
    assert guarded.replace("'", "", 1) == name and re.search("[;|]'[=+@－]", guarded)
    assert others == ["ada; a=1", "Smith-Jones", "a,-b|c"]


def test_every_cell_is_quoted(api: Api) -> None:
    """So that whatever is taken for a separator is none within a cell."""
    api.initialize(5)
    api.book("ada;=1+1")
    for line in api.get(f"/events/{EVENT_ID}/orders.csv", staff=True).text.splitlines():
        assert re.fullmatch(r'"[^"]*"(,"[^"]*")*', line)


@pytest.mark.parametrize(
    ("text", "shown"), [("\t=1", "'\t'=1"), ("\r=1", "'\r=1"), ("\n=1", "'\n=1"), ("ada\t=1", "ada\t'=1")]
)
def test_white_space_in_front_of_a_formula(text: str, shown: str) -> None:
    """No name can hold it by HTTP, but a ledger may have been imported."""
    assert exports._cell(text) == shown


def test_a_long_file_is_made_while_it_is_sent(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, between which others have their turn; it is of one moment, whatever happens meanwhile."""

    class CountingClock(SystemClock):
        turns = 0

        def sleep(self, seconds: float) -> None:
            """Count."""
            self.turns += 1

    monkeypatch.setattr(exports, "ROWS_AT_ONCE", 2)
    api.initialize(9)
    for number in range(5):
        api.book(f"user {number}")
    clock = CountingClock()
    pieces = exports.orders_csv(api.services.manager.state_of(EVENT_ID), clock)
    first = next(pieces)
    api.cancel("user 4")
    rest = list(pieces)
    assert [len(rows(piece)) for piece in (first, *rest)] == [3, 2, 1]
    assert clock.turns == 2
    column = ORDER_MEMBERS.index("status")
    assert [line[column] for line in rows("".join([first, *rest]))] == ["status", *["confirmed"] * 5]


def test_an_event_without_orders(api: Api) -> None:
    """The names of the columns alone."""
    api.initialize()
    assert rows(api.get(f"/events/{EVENT_ID}/orders.csv", staff=True).text) == [ORDER_MEMBERS]


def test_a_refusal_is_a_problem(api: Api) -> None:
    """Not CSV, whatever the caller would rather have."""
    api.initialize()
    answer = api.client.get("/events/nowhere/orders.csv", auth=ADMIN, headers={"Accept": "text/csv"})
    refused(answer, 404, "event_not_found")
    assert api.get(f"/events/{EVENT_ID}/orders.csv").mimetype == PROBLEM
