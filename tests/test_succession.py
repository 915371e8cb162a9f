"""What the workers of one service know of each other at a reload, without any processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ticketing import succession


@pytest.fixture(autouse=True)
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A page of memory of the test's own."""
    monkeypatch.setattr(succession, "_page", None)
    monkeypatch.setattr(succession, "_mine", 0)
    succession.share()
    assert succession._page is not None
    yield
    succession._page.close()


def is_followed(monkeypatch: pytest.MonkeyPatch, generation: int) -> bool:
    """What a worker of a generation learns."""
    with monkeypatch.context() as patch:
        patch.setattr(succession, "_mine", generation)
        return succession.is_followed()


def serve(monkeypatch: pytest.MonkeyPatch, generation: int) -> None:
    """A worker of a generation takes connections."""
    with monkeypatch.context() as patch:
        patch.setattr(succession, "_mine", generation)
        succession.note_serving()


def test_the_old_go_on_until_the_last_begun_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new ones are followed by nobody; and where the service ends, nobody is."""
    assert not is_followed(monkeypatch, 0)
    succession.begin_generation()
    succession.begin_generation()
    assert [is_followed(monkeypatch, each) for each in range(3)] == [True, True, False]
    serve(monkeypatch, 1)
    assert [is_followed(monkeypatch, each) for each in range(3)] == [True, True, False]
    serve(monkeypatch, 2)
    assert [is_followed(monkeypatch, each) for each in range(3)] == [False, False, False]
    succession.begin_generation()
    assert is_followed(monkeypatch, 2)
    succession.end()
    assert not is_followed(monkeypatch, 2)


def test_a_late_one_of_the_old_takes_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins to serve when its followers do already: those before it need not wait any more."""
    for _ in range(2):
        succession.begin_generation()
    serve(monkeypatch, 2)
    for late in (1, 0):
        serve(monkeypatch, late)
        assert [is_followed(monkeypatch, each) for each in range(3)] == [False, False, False]


def test_there_may_be_any_number_of_reloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new generation is waited for anew."""
    for generation in range(1, 5000):
        succession.begin_generation()
        assert is_followed(monkeypatch, generation - 1)
        serve(monkeypatch, generation)
        assert not is_followed(monkeypatch, generation - 1)
