"""What cancelling does: tickets go to the line in the same step, from its head, to nobody out of turn."""

from __future__ import annotations

from ticketing.domain.model import Answer, OrderStatus, TransitionType

from .rehearsal import Rehearsal, refusal_of


def promoted_users(answer: Answer) -> list[str]:
    """Who moved up, in order."""
    return [order.user_id for order in answer.promoted]


def test_a_cancelled_ticket_is_available_again() -> None:
    """Nobody waits: the ticket goes back on sale."""
    play = Rehearsal(2)
    play.book("ada", 2)
    answer = play.cancel("ada")
    assert answer.order is not None
    assert answer.order.status is OrderStatus.CANCELLED
    assert answer.promoted == ()
    assert (play.state.booked_tickets, play.state.available_tickets) == (0, 2)


def test_a_cancelled_ticket_goes_to_the_first_in_line_in_the_same_transition() -> None:
    """There is no version at which the ticket is free: the cancellation holds the promotion."""
    play = Rehearsal(1)
    for user_id in ("ada", "bob", "cyd"):
        play.book(user_id)
    answer = play.cancel("ada")
    assert promoted_users(answer) == ["bob"]
    assert play.state.version == 5
    assert (play.state.booked_tickets, play.state.available_tickets, play.line()) == (1, 0, ["cyd"])
    assert [change["status"] for change in play.transitions[-1].orders] == ["cancelled", "confirmed"]
    assert play.order_of("bob").version == play.order_of("cyd").version + 1 == 5


def test_a_large_order_that_is_cancelled_serves_as_many_as_fit() -> None:
    """Five tickets: the first three in line take them all, and the fourth moves up to the head."""
    play = Rehearsal(5)
    play.book("ada", 5)
    for user_id, quantity in (("bob", 2), ("cyd", 1), ("dan", 2), ("eve", 1)):
        play.book(user_id, quantity)
    assert promoted_users(play.cancel("ada")) == ["bob", "cyd", "dan"]
    assert play.line() == ["eve"]
    assert play.state.waiting_position(play.order_of("eve")) == 1


def test_promotion_stops_at_the_first_who_does_not_fit() -> None:
    """The single ticket that is left would fit the next one, who came later and goes on waiting."""
    play = Rehearsal(3)
    play.book("ada", 2)
    play.book("zoe")
    for user_id, quantity in (("bob", 1), ("cyd", 2), ("dan", 1)):
        play.book(user_id, quantity)
    assert promoted_users(play.cancel("ada")) == ["bob"]
    assert play.line() == ["cyd", "dan"]
    assert (play.state.available_tickets, play.state.held_tickets) == (0, 1)


def test_a_waiting_order_that_is_cancelled_leaves_the_line() -> None:
    """From the middle: those behind it move up by one, and nobody is promoted."""
    play = Rehearsal(1)
    for user_id in ("ada", "bob", "cyd", "dan"):
        play.book(user_id)
    answer = play.cancel("cyd")
    assert answer.order is not None
    assert answer.order.status is OrderStatus.CANCELLED
    assert answer.promoted == ()
    assert play.line() == ["bob", "dan"]
    assert play.state.waiting_position(play.order_of("dan")) == 2


def test_the_head_of_the_line_that_leaves_serves_those_behind_it() -> None:
    """It alone held up the line: the held tickets go to whom they fit, though no ticket was released."""
    play = Rehearsal(4)
    play.book("ada", 2)
    for user_id, quantity in (("bob", 3), ("cyd", 1), ("dan", 1), ("eve", 1)):
        play.book(user_id, quantity)
    assert play.state.held_tickets == 2
    assert promoted_users(play.cancel("bob")) == ["cyd", "dan"]
    assert play.line() == ["eve"]
    assert play.state.held_tickets == 0


def test_who_leaves_from_behind_the_head_serves_nobody() -> None:
    """The head still does not fit, and nobody goes around it."""
    play = Rehearsal(4)
    play.book("ada", 2)
    for user_id, quantity in (("bob", 3), ("cyd", 1), ("dan", 1)):
        play.book(user_id, quantity)
    assert play.cancel("cyd").promoted == ()
    assert play.line() == ["bob", "dan"]


def test_an_order_can_be_cancelled_by_its_id() -> None:
    """Who has the id need not name the user."""
    play = Rehearsal(1)
    play.book("ada")
    answer = play.cancel(order_id=play.order_of("ada").order_id)
    assert answer.order is not None
    assert answer.order.user_id == "ada"
    assert play.state.active_order_of("ada") is None


def test_cancelling_a_cancelled_order_by_its_id_changes_nothing() -> None:
    """It gets the order as it is, nobody is promoted, and nothing is written."""
    play = Rehearsal(1)
    play.book("ada")
    order_id = play.order_of("ada").order_id
    first = play.cancel(order_id=order_id)
    version = play.state.version
    second = play.cancel(order_id=order_id)
    assert second.order == first.order
    assert second.promoted == ()
    assert play.state.version == version


def test_there_must_be_an_order_to_cancel() -> None:
    """An unknown id, an unknown user, and a user whose order is cancelled already: not found."""
    play = Rehearsal(1)
    play.book("ada")
    play.cancel("ada")
    assert refusal_of(play.cancel(order_id="concert-2027.unknown")) == "order_not_found"
    assert refusal_of(play.cancel("bob")) == "order_not_found"
    assert refusal_of(play.cancel("ada")) == "order_not_found"


def test_an_order_id_of_an_event_that_does_not_exist_is_just_not_found() -> None:
    """Who asks for an order is told about the order, not about the event that its id begins with."""
    assert refusal_of(Rehearsal().cancel(order_id="concert-2027.unknown")) == "order_not_found"


def test_who_acted_is_written_down() -> None:
    """`by` is the authenticated user of the command, whoever's order it is."""
    play = Rehearsal(1)
    play.book("ada")
    play.cancel("ada")
    assert [transition.by for transition in play.transitions] == ["admin", None, "admin"]
    assert play.transitions[-1].type is TransitionType.CANCELLED


# A part of an order.


def test_some_tickets_of_an_order_are_given_back() -> None:
    """The order stays, smaller; what it gave back goes to the line in the same transition."""
    play = Rehearsal(3)
    play.book("ada", 3)
    play.book("bob", 1)
    play.book("cyd", 2)
    answer = play.cancel("ada", 2)
    assert answer.order is not None
    assert (answer.order.quantity, answer.order.status) == (1, OrderStatus.CONFIRMED)
    assert promoted_users(answer) == ["bob"]
    assert (play.state.booked_tickets, play.state.held_tickets, play.line()) == (2, 1, ["cyd"])
    assert play.transitions[-1].type is TransitionType.CANCELLED


def test_all_of_its_tickets_are_the_whole_order() -> None:
    """Then it is cancelled; and more than it has is refused."""
    play = Rehearsal(3)
    play.book("ada", 3)
    refused = play.cancel("ada", 4)
    assert refused.refusal is not None
    assert (refusal_of(refused), refused.refusal.details) == ("exceeds_order_quantity", {"maximum": 3})
    answer = play.cancel("ada", 3)
    assert answer.order is not None
    assert (answer.order.status, answer.order.quantity) == (OrderStatus.CANCELLED, 3)


def test_who_wants_fewer_keeps_the_place_in_line() -> None:
    """And moves up at once where the rest fits: first in line, nobody is passed by."""
    play = Rehearsal(2)
    play.book("ada", 1)
    for user_id, quantity in (("bob", 3), ("cyd", 1)):
        play.book(user_id, min(quantity, 2))
    assert play.line() == ["bob", "cyd"]
    answer = play.cancel("cyd", 1)
    assert promoted_users(answer) == []
    answer = play.cancel("bob", 1)
    assert answer.order is not None
    assert (answer.order.quantity, answer.order.status) == (1, OrderStatus.CONFIRMED)
    assert promoted_users(answer) == ["bob"]
    assert play.line() == []


def test_the_last_in_line_who_wants_fewer_overtakes_nobody() -> None:
    """One ticket is free and would do, but the first needs two."""
    play = Rehearsal(2)
    play.book("ada", 1)
    play.book("bob", 2)
    play.book("cyd", 2)
    answer = play.cancel("cyd", 1)
    assert (promoted_users(answer), play.line()) == ([], ["bob", "cyd"])
    assert play.order_of("cyd").quantity == 1
