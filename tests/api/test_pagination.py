"""Lists in pages: `limit` and `after` in, `next` and `Link` out, whatever happens between two pages."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .conftest import EVENT_ID, Answer, Api, refused
from .test_bookings import on_both

WAITING = f"/events/{EVENT_ID}/waiting-list"
ORDERS = f"/events/{EVENT_ID}/orders"
LISTS = [WAITING, ORDERS]


def pages(api: Api, path: str, between: Callable[[], None] = lambda: None, **query: Any) -> Iterator[Any]:
    """Each page of a list, as its cursors lead; `between` is called after each."""
    after: dict[str, str] = {}
    while True:
        answer = api.get(path, staff=True, query_string=query | after)
        assert answer.status_code == 200
        yield answer.json
        if answer.json["next"] is None:
            return
        after = {"after": answer.json["next"]}
        between()


def link_of(answer: Answer) -> str | None:
    """The address of the next page, if there is one (RFC 8288)."""
    if "Link" not in answer.headers:
        return None
    match = re.fullmatch(r'<([^<>\s]+)>; rel="next"', answer.headers["Link"])
    assert match, answer.headers["Link"]
    return match[1]


def users(page: Any) -> list[str]:
    """Whose the items are."""
    return [item["user_id"] for item in page["items"]]


@pytest.fixture
def crowd(api: Api) -> Api:
    """Ten tickets, and forty people who came in the order of their numbers."""
    api.initialize(10)
    for number in range(40):
        api.book(f"user-{number:02}")
    return api


EVERYBODY = [f"user-{number:02}" for number in range(40)]


@on_both
def test_the_pages_are_the_whole(crowd: Api) -> None:
    """All of it, in order, each item once, each page full but the last."""
    for path, wanted in ((WAITING, EVERYBODY[10:]), (ORDERS, EVERYBODY)):
        for limit in (1, 7, 10, 29, 30, 31, 40, 500):
            found = list(pages(crowd, path, limit=limit))
            assert [user for page in found for user in users(page)] == wanted
            assert all(len(page["items"]) == limit for page in found[:-1])
            assert 0 < len(found[-1]["items"]) <= limit


def test_positions_go_on_from_page_to_page(crowd: Api) -> None:
    """The place in line, not the place on the page."""
    found = [item["position"] for page in pages(crowd, WAITING, limit=7) for item in page["items"]]
    assert found == list(range(1, 31))


@pytest.mark.parametrize("path", LISTS)
def test_fifty_unless_told(api: Api, path: str) -> None:
    """The usual size of a page."""
    api.initialize(1)
    for number in range(60):
        api.book(f"user-{number}")
    first = api.get(path, staff=True).json
    assert len(first["items"]) == 50
    assert len(api.get(path, staff=True, query_string={"after": first["next"]}).json["items"]) in (9, 10)


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("mongo", "seed"), [("mongomock", 1), ("mongomock", 2), ("mongomock", 3), ("mongod", 4)], indirect=["mongo"]
)
def test_nobody_is_lost_and_nobody_is_twice(crowd: Api, path: str, seed: int) -> None:
    """People book and cancel between the pages: who was on the list and stayed is shown, and each once at most."""
    dice = random.Random(seed)
    newcomers: list[str] = []

    def churn() -> None:
        for _ in range(3):
            if dice.random() < 0.5:
                newcomers.append(f"new-{len(newcomers)}")
                crowd.book(newcomers[-1], dice.randint(1, 3))
            else:
                crowd.cancel(dice.choice(EVERYBODY))

    before = {user for page in pages(crowd, path, limit=500) for user in users(page)}
    # Four a page and three changes between two: the list is read faster than it grows.
    shown = [user for page in pages(crowd, path, churn, limit=4) for user in users(page)]
    after = {user for page in pages(crowd, path, limit=500) for user in users(page)}
    assert newcomers
    assert len(shown) == len(set(shown))
    assert before & after <= set(shown)
    assert set(shown) <= before | set(newcomers)
    assert shown == sorted(shown, key=[*EVERYBODY, *newcomers].index)


def test_a_cursor_outlives_the_item_that_it_names(crowd: Api) -> None:
    """The last one of a page leaves: the next page begins with who came after."""
    first = crowd.get(WAITING, staff=True, query_string={"limit": 5}).json
    assert users(first) == EVERYBODY[10:15]
    for user in users(first):
        crowd.cancel(user)
    second = crowd.get(WAITING, staff=True, query_string={"limit": 5, "after": first["next"]}).json
    assert users(second) == EVERYBODY[15:20]
    assert [item["position"] for item in second["items"]] == [1, 2, 3, 4, 5]


def test_the_end_of_a_list_that_shrank(crowd: Api) -> None:
    """A cursor behind the last item leads to an empty page, not to an error."""
    cursor = crowd.get(WAITING, staff=True, query_string={"limit": 25}).json["next"]
    for user in EVERYBODY[35:]:
        crowd.cancel(user)
    assert crowd.get(WAITING, query_string={"after": cursor}).json == {"items": [], "next": None}


@pytest.mark.parametrize("path", LISTS)
def test_the_link_leads_on(crowd: Api, path: str) -> None:
    """It is the whole request for the next page; the last page has none."""
    seen: list[str] = []
    at: str | None = f"{path}?limit=9"
    while at is not None:
        answer = crowd.get(at, staff=True)
        seen += users(answer.json)
        at = link_of(answer)
        assert (at is None) == (answer.json["next"] is None)
        assert at is None or f"after={answer.json['next']}" in at and "limit=9" in at
    assert seen == (EVERYBODY if path == ORDERS else EVERYBODY[10:])


def test_filters_keep_through_the_pages(crowd: Api) -> None:
    """By the link, and by the cursor sent with the same filter."""
    for user in EVERYBODY[::3]:
        crowd.cancel(user)
    wanted = EVERYBODY[::3]
    found = pages(crowd, ORDERS, status="cancelled", limit=4)
    assert [user for page in found for user in users(page)] == wanted
    seen: list[str] = []
    at: str | None = f"{ORDERS}?status=cancelled&limit=4"
    while at is not None:
        answer = crowd.get(at, staff=True)
        seen += users(answer.json)
        at = link_of(answer)
    assert seen == wanted


def test_a_filter_is_spelt_right_in_the_link(api: Api) -> None:
    """A user id with blanks, signs and letters beyond ASCII survives the way through the address."""
    user = "Zoë & co = 100% + 日本 \"<>\""
    api.initialize()
    for _ in range(3):
        api.book(user)
        api.cancel(user)
    answer = api.get(ORDERS, staff=True, query_string={"user_id": user, "limit": 2})
    link = link_of(answer)
    assert link is not None and link.isascii()
    assert users(api.get(link, staff=True).json) == [user]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", ["0", "501", "-1", "abc", "", "1.5", "1e2", " ", "0x10", "9" * 5_000, "null"])
def test_other_limits_are_refused(api: Api, path: str, limit: str) -> None:
    """422, naming the parameter."""
    api.initialize()
    problem = refused(api.get(path, staff=True, query_string={"limit": limit}), 422, "validation_failed")
    assert list(problem["errors"]) == ["limit"]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", [1, 500])
def test_the_bounds_of_the_limit(api: Api, path: str, limit: int) -> None:
    """1 and 500 are in."""
    api.initialize()
    assert api.get(path, staff=True, query_string={"limit": limit}).status_code == 200


def encoded(text: str) -> str:
    """A text as cursors are written."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "5",
        "abc",
        "===",
        "MTA=",
        "MT A",
        "%00",
        "日本",
        "$ne",
        encoded("-1"),
        encoded("1.5"),
        encoded("+5"),
        encoded(" 5"),
        encoded("05"),
        encoded("1_0"),
        encoded("٣"),
        encoded("nan"),
        encoded("9" * 5_000),
        "A" * 3_999,
    ],
)
def test_other_cursors_are_refused(api: Api, path: str, cursor: str) -> None:
    """422, naming the parameter: only what the service gave out is a cursor."""
    api.initialize()
    problem = refused(api.get(path, staff=True, query_string={"after": cursor}), 422, "validation_failed")
    assert list(problem["errors"]) == ["after"]


@pytest.mark.parametrize("path", LISTS)
def test_a_cursor_far_behind_the_end(crowd: Api, path: str) -> None:
    """Nothing comes after it."""
    for number in (40, 41, 10**6, 2**63, 10**30):
        answer = crowd.get(path, staff=True, query_string={"after": encoded(str(number))})
        assert answer.json == {"items": [], "next": None}


@pytest.mark.parametrize("path", LISTS)
def test_an_unknown_parameter_is_refused(api: Api, path: str) -> None:
    """422, naming it: a misspelt `limit` must not be passed over."""
    api.initialize()
    problem = refused(api.get(f"{path}?limits=5", staff=True), 422, "validation_failed")
    assert list(problem["errors"]) == ["limits"]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("query", ["limit=1&limit=2", "after=MA&after=MA", "limit=1&limit"])
def test_a_parameter_that_stands_twice_is_refused(api: Api, path: str, query: str) -> None:
    """422, naming it: two readers would take two different values."""
    api.initialize()
    problem = refused(api.get(f"{path}?{query}", staff=True), 422, "validation_failed")
    assert list(problem["errors"]) == [query.partition("=")[0]]


def test_a_view_without_parameters_passes_all_over(api: Api) -> None:
    """What is no list has no parameter to misspell: whatever a cache or a probe adds is of no consequence."""
    api.initialize()
    for path in (f"/status/{EVENT_ID}", f"/events/{EVENT_ID}", "/healthz"):
        assert api.get(f"{path}?limit=1&limit=2&_=1").status_code == 200


@pytest.mark.parametrize("limit", ["1_0", "+5", " 5", "5 ", "٥", "1e1", "0x5", "-1", ""])
def test_a_limit_is_digits_and_nothing_else(api: Api, limit: str) -> None:
    """What only Python takes for a number is refused, by the name of the field."""
    api.initialize()
    answer = api.get(f"/events/{EVENT_ID}/waiting-list", query_string={"limit": limit})
    problem = refused(answer, 422, "validation_failed")
    assert "limit" in problem["errors"]
