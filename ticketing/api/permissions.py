"""Who may do what with which event and which order: the rules of ownership, all of them.

    an admin      everything
    an organizer  what an admin may, in the events that he has opened; and he books for anybody
    a customer    books for himself, and reads and cancels his own orders
    nobody        books under any name that has no account, and reads what was booked like that

An order is its user's own if it was booked with credentials: by him, or by staff for whoever has that name. What
somebody has booked under a name without credentials does not come to whoever registers that name.
"""

from __future__ import annotations

from http import HTTPStatus

from ..domain.model import Event, EventState, Order, RequestKey
from ..errors import EventNotFound, OrderNotFound
from ..ids import event_id_of
from ..services import left_s, request_deadline, services
from .auth import Caller, Role, current_caller, refuse
from .problems import ApiProblem


def user_to_book_for(user_id: str | None) -> str:
    """Whom the request books for: `user_id`, in the normal form, or the caller.

    Raises `ApiProblem` 401 where credentials are needed, 403 where others are, 422 for nobody at all.
    """
    caller = current_caller()
    if caller is not None:
        wanted = user_id or caller.user_id
        if caller.role is Role.CUSTOMER and wanted != caller.user_id:
            refuse(HTTPStatus.FORBIDDEN)
        return wanted
    if services().config.booking_requires_login:
        refuse(HTTPStatus.UNAUTHORIZED)
    if user_id is None:
        raise ApiProblem(422, members={"errors": {"user_id": ["Needed where no credentials are sent."]}})
    if services().accounts.recent(user_id, request_deadline()) is not None:
        refuse(HTTPStatus.UNAUTHORIZED)
    return user_id


def is_staff_of(event: Event | None) -> bool:
    """Whether the caller runs this event."""
    caller = current_caller()
    return caller is not None and _is_staff(caller, event)


def require_staff_of(state: EventState) -> None:
    """Raises `ApiProblem` 403 for a caller who does not run this event."""
    if not is_staff_of(state.event):
        refuse(HTTPStatus.FORBIDDEN)


def require_staff_of_event(event_id: str) -> None:
    """The same, by the event's id. Raises what a look at the event raises."""
    caller = current_caller()
    if caller is None or caller.role is not Role.ADMIN:  # an admin may, whatever there is to see
        require_staff_of(services().manager.state_of(event_id, within_s=left_s()))


def require_owner_or_staff(state: EventState, order: Order) -> None:
    """Raises `ApiProblem` 403 for a caller who neither owns this order nor runs its event."""
    caller = current_caller()
    if caller is None:
        refuse(HTTPStatus.UNAUTHORIZED)
    if not (_is_staff(caller, state.event) or _is_owner(caller, order)):
        refuse(HTTPStatus.FORBIDDEN)


def user_to_list(user_id: str | None) -> str:
    """Whose orders the request lists: `user_id`, in the normal form, or the caller's.

    Raises `ApiProblem` 403 where staff are needed.
    """
    caller = current_caller()
    if caller is None:
        refuse(HTTPStatus.UNAUTHORIZED)
    if user_id is None or user_id == caller.user_id:
        return caller.user_id
    if not caller.is_staff:
        refuse(HTTPStatus.FORBIDDEN)
    return user_id


def is_owner(order: Order) -> bool:
    """Whether the order is the caller's own."""
    caller = current_caller()
    return caller is not None and _is_owner(caller, order)


def may_read(state: EventState, order: Order) -> bool:
    """Whether the caller, who has its id, may read this order."""
    if is_staff_of(state.event) or is_owner(order):
        return True
    return not order.is_authenticated or services().accounts.recent(order.user_id, request_deadline()) is None


def event_of_order_to_change(
    order_id: str | None,
    event_id: str | None = None,
    user_id: str | None = None,
    *,
    request: RequestKey | None,
) -> str:
    """The event of an order that the caller may change: the one with an id, or the active one of a user.

    A `request` that was answered before is his own, for its key is, and gets that answer again.

    Raises `ApiProblem` 403, and what a look at the event raises.
    """
    caller = current_caller()
    if caller is None:
        refuse(HTTPStatus.UNAUTHORIZED)
    if event_id is None:
        event_id = event_id_of(order_id or "")
        if event_id is None:
            raise OrderNotFound
    if caller.role is Role.ADMIN:
        return event_id  # no need to look
    if caller.role is Role.CUSTOMER and user_id not in (None, caller.user_id):
        refuse(HTTPStatus.FORBIDDEN)
    try:
        state = services().manager.state_of(event_id, within_s=left_s())
    except EventNotFound:
        if order_id is None:
            raise
        raise OrderNotFound from None
    if _is_staff(caller, state.event) or (request is not None and request.key in state.keys):
        return event_id
    order = state.active_order_of(user_id or "") if order_id is None else state.order(order_id)
    if order is None:
        raise OrderNotFound
    require_owner_or_staff(state, order)
    return event_id


def _is_staff(caller: Caller, event: Event | None) -> bool:
    if caller.role is Role.ORGANIZER:
        return event is not None and event.organizer == caller.user_id
    return caller.role is Role.ADMIN


def _is_owner(caller: Caller, order: Order) -> bool:
    return order.is_authenticated and order.user_id == caller.user_id
