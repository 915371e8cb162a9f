"""What goes in and out, as marshmallow schemas. /openapi.json is made from them.

In: unknown or mistyped fields are refused; a number is never taken for a string or the other way round.
Out: timestamps are RFC 3339 in UTC with a Z, ids are strings.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from marshmallow import INCLUDE, RAISE, Schema, ValidationError, fields, post_load, validate, validates_schema

from .. import passwords
from ..domain.accounts import Role
from ..domain.changes import Change
from ..domain.commands import BULK_MAX
from ..domain.decide import TICKET_TYPES_MAX
from ..domain.history import EntryType
from ..domain.model import (
    MAX_TICKETS_PER_ORDER,
    EventState,
    EventStatus,
    Order,
    OrderStatus,
    TransitionType,
)
from ..domain.notices import NoticeType
from ..domain.tickets import TicketType, general
from ..domain.summary import SummarizedEvent
from ..ids import EVENT_ID_PATTERN, is_event_id
from ..money import PRICE_PATTERN, is_currency_code, price_of
from ..passwords import normal

TOTAL_TICKETS_MAX = 10_000_000
TICKETS_PER_ORDER_MAX = 1_000
NAME_LENGTH_MAX = 200
DESCRIPTION_LENGTH_MAX = 5_000
USER_ID_LENGTH_MAX = 128
ORDER_ID_LENGTH_MAX = 128
URL_LENGTH_MAX = 2048
VERSION_MAX = 999_999_999
CHANGES_WAIT_S_MAX = 20

# What `_is_text` takes, for /openapi.json: no control characters, and white space neither first nor last. Spelt
# out, because Python and ECMA-262 differ on \s.
_CONTROL = r"\x00-\x1f\x7f-\x9f"
_SPACE = r"\x20\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
TEXT_PATTERN = f"^[^{_CONTROL}{_SPACE}]([^{_CONTROL}]*[^{_CONTROL}{_SPACE}])?$"

CODE_PATTERN = "^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$"

ACCOUNT_NAME_PATTERN = (
    rf"^(?!(me|\.{{1,2}})$)[^{_CONTROL}{_SPACE}:/]([^{_CONTROL}:/]*[^{_CONTROL}{_SPACE}:/])?$"
)


class Text(fields.String):
    """A string that can be shown and stored: no control characters, no lone surrogates, no blank ends."""

    def __init__(
        self,
        *,
        length_max: int,
        metadata: dict[str, Any] | None = None,
        validate_more: Sequence[Callable[[str], None]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            validate=[validate.Length(1, length_max), _is_text, *validate_more],
            metadata={"pattern": TEXT_PATTERN} | (metadata or {}),
            **kwargs,
        )


class Whole(fields.Integer):
    """A JSON integer: not a string, not a float, not a boolean."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(strict=True, **kwargs)

    def _validated(self, value: Any) -> Any:
        if isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


class Digits(fields.Integer):
    """An integer of a query: ASCII digits and nothing else, where int() would take "1_0", " 5" and "٥"."""

    def _validated(self, value: Any) -> Any:
        if not re.fullmatch("[0-9]{1,9}", value):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


class Limit(Digits):
    """How long a page may be."""

    def __init__(self) -> None:
        about = {"description": "How many items a page has at most."}
        super().__init__(load_default=50, validate=validate.Range(1, 500), metadata=about)


class Next(fields.String):
    """Where a page ends."""

    def __init__(self) -> None:
        super().__init__(
            allow_none=True, metadata={"description": "The `after` of the next page; null where this is the last."}
        )


def rfc3339(at: datetime) -> str:
    """A time in UTC with milliseconds, ending in Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


class Timestamp(fields.DateTime):
    """RFC 3339 in UTC with milliseconds, ending in Z."""

    def _serialize(self, value: datetime | None, attr: Any, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else rfc3339(value)


class Instant(Timestamp):
    """RFC 3339 with an offset from UTC, taken to the millisecond, which is what MongoDB keeps."""

    _FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:]{8}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})")

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> datetime:
        if not isinstance(value, str) or not self._FORM.fullmatch(value):
            raise self.make_error("invalid", input=value, obj_type="RFC 3339 date-time")
        try:
            at = datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise self.make_error("invalid", input=value, obj_type="RFC 3339 date-time") from error
        return at.replace(microsecond=at.microsecond // 1000 * 1000)


_NEVER: dict[str, Any] = {"not": {}}  # a property that must not be there, to /openapi.json


class StrictSchema(Schema):
    """Input: what is not a field is refused.

    `Meta.json_schema` is what /openapi.json says beside the fields, of several of them together.
    """

    class Meta:
        unknown = RAISE
        json_schema: dict[str, Any] = {}


def _is_text(value: str) -> None:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValidationError("Control characters and surrogates are not allowed.")
    if value != value.strip():
        raise ValidationError("Must not begin or end with white space.")


def _is_timezone(value: str) -> None:
    if value not in _timezones():
        raise ValidationError("Must be the IANA name of a time zone, like Europe/Berlin.")


@cache
def _timezones() -> frozenset[str]:
    return frozenset(available_timezones())


def _is_unicode(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError("Surrogates are not allowed.") from None


def _is_account_name(value: str) -> None:
    # RFC 7617, 2: a colon would end the name. The others would not lead to /users/<user_id>.
    if ":" in value or "/" in value or value in ("me", ".", ".."):
        raise ValidationError("Must not contain ':' or '/', nor be 'me', '.' or '..'.")


def _is_currency(value: str) -> None:
    if not is_currency_code(value):
        raise ValidationError("Must be the code of a currency in ISO 4217, like EUR.")


def _is_code(value: str) -> None:
    if not re.fullmatch(CODE_PATTERN.strip("^$"), value):
        raise ValidationError("Must be 1 to 32 letters, digits, '-' or '_', and begin with a letter or a digit.")


def _price_of(data: dict[str, Any]) -> None:
    """Put the exact amount in the place of the digits. Raises ValidationError for what is none of its currency."""
    try:
        data["price"] = price_of(data.get("price", "0"), data.get("currency"))
    except ValueError as error:
        raise ValidationError(str(error), "price") from error


def _are_different(values: list[str]) -> None:
    if len(set(values)) < len(values):
        raise ValidationError("Each only once.")


def _is_event_id(value: str) -> None:
    if not is_event_id(value):
        raise ValidationError("Must be 1 to 64 letters, digits, '-' or '_', and begin with a letter or a digit.")


def _event_id(*, metadata: dict[str, Any], **kwargs: Any) -> fields.String:
    # Not validate.Regexp: its pattern would stand in /openapi.json, and Python's \Z is a plain Z in ECMA-262.
    pattern = f"^{EVENT_ID_PATTERN.pattern}$"
    return fields.String(validate=_is_event_id, metadata=metadata | {"pattern": pattern}, **kwargs)


class Price(fields.String):
    """An amount of money as digits, without its currency."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(metadata={"pattern": PRICE_PATTERN, "examples": ["25.00"]}, **kwargs)


class Currency(fields.String):
    """ISO 4217."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(validate=_is_currency, metadata={"pattern": "^[A-Z]{3}$", "examples": ["EUR"]}, **kwargs)


class Code(fields.String):
    """The code of a ticket type."""

    def __init__(self, description: str = "The code of a ticket type.", **kwargs: Any) -> None:
        about = {"description": description, "pattern": CODE_PATTERN, "examples": ["balcony"]}
        super().__init__(validate=_is_code, metadata=about, **kwargs)


class UserId(Text):
    """A user's id. Case matters, how accents are put together does not: from here on it is in the normal form."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(length_max=USER_ID_LENGTH_MAX, post_load=normal, **kwargs)


class Password(fields.String):
    """A password as it is typed, white space and all. Whether it is a good one is for passwords.py to say."""

    def __init__(self, *, required: bool = True) -> None:
        length = validate.Length(passwords.LENGTH_MIN, passwords.LENGTH_MAX)
        super().__init__(required=required, validate=[length, _is_unicode])


# In.


class DetailsSchema(StrictSchema):
    """What an organizer may say about an event, when it is opened and later."""

    max_tickets_per_order = Whole(validate=validate.Range(1, TICKETS_PER_ORDER_MAX))
    max_tickets_per_user = Whole(validate=validate.Range(1, TOTAL_TICKETS_MAX), allow_none=True)
    venue = Text(length_max=NAME_LENGTH_MAX, allow_none=True, metadata={"examples": ["City Hall"]})
    description = Text(length_max=DESCRIPTION_LENGTH_MAX, allow_none=True)
    timezone = fields.String(
        validate=_is_timezone,
        allow_none=True,
        metadata={
            "description": "Of the venue, for people: an IANA name.",
            "examples": ["Europe/Berlin"],
            "format": "iana-time-zone",
        },
    )
    starts_at = Instant(allow_none=True, metadata={"examples": ["2027-06-01T18:00:00Z"]})
    ends_at = Instant(allow_none=True)
    sales_open_at = Instant(allow_none=True, metadata={"description": "Null: at once."})
    sales_close_at = Instant(allow_none=True, metadata={"description": "Null: when the event ends, if ever."})
    transfer_close_at = Instant(allow_none=True, metadata={"description": "Null: when the event starts, if ever."})


class TicketTypeSchema(StrictSchema):
    """A ticket type of POST /initialize: free unless told."""

    code = Code(required=True)
    name = Text(length_max=NAME_LENGTH_MAX, metadata={"description": "The code unless told.", "examples": ["Balcony"]})
    total_tickets = Whole(required=True, validate=validate.Range(1, TOTAL_TICKETS_MAX), metadata={"examples": [40]})
    price = Price()
    currency = Currency()

    @post_load
    def _type(self, data: dict[str, Any], **kwargs: Any) -> TicketType:
        _price_of(data)
        return TicketType(**{"name": data["code"], **data})


class TicketTypeChangeSchema(StrictSchema):
    """What PATCH sets of a ticket type, or a new one. A price comes with its currency."""

    code = Code(required=True)
    name = Text(length_max=NAME_LENGTH_MAX)
    total_tickets = Whole(validate=validate.Range(1, TOTAL_TICKETS_MAX))
    price = Price()
    currency = Currency()

    @post_load
    def _exact(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        if "price" in data or "currency" in data:
            _with_currency(data)
        return data


def _with_currency(data: dict[str, Any]) -> None:
    """Price and currency of a change: a currency alone would make another amount of the same digits."""
    if "price" not in data:
        raise ValidationError("Send it with the price.", "currency")
    _price_of(data)
    data.setdefault("currency", None)


def _have_different_codes(values: list[Any]) -> None:
    codes = [value.code if isinstance(value, TicketType) else value["code"] for value in values]
    if len(set(codes)) < len(codes):
        raise ValidationError("Each code only once.")


class InitializeSchema(DetailsSchema):
    """POST /initialize: tickets of one type, free unless told, or of several types."""

    class Meta(StrictSchema.Meta):
        json_schema = {
            "oneOf": [
                {"required": ["total_tickets"], "properties": {"ticket_types": _NEVER}},
                {
                    "required": ["ticket_types"],
                    "properties": {"total_tickets": _NEVER, "price": _NEVER, "currency": _NEVER},
                },
            ]
        }

    name = Text(length_max=NAME_LENGTH_MAX, required=True, metadata={"examples": ["Concert"]})
    total_tickets = Whole(validate=validate.Range(1, TOTAL_TICKETS_MAX), metadata={"examples": [100]})
    price = Price()
    currency = Currency()
    ticket_types = fields.List(
        fields.Nested(TicketTypeSchema),
        validate=[validate.Length(1, TICKET_TYPES_MAX), _have_different_codes],
        metadata={"description": "Instead of total_tickets, price and currency."},
    )
    event_id = _event_id(
        metadata={"description": "Made for you when you send none.", "examples": ["concert-2027"]}
    )

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def _says_what_there_is(self, data: dict[str, Any], original: Any, **kwargs: Any) -> None:
        sent = original if isinstance(original, dict) else {}
        if "ticket_types" in sent:
            for name in ("total_tickets", "price", "currency"):
                if name in sent:
                    raise ValidationError("Not beside ticket_types: it stands in each of them.", name)
        elif "total_tickets" not in sent:
            raise ValidationError("Missing data for required field.", "total_tickets")

    @post_load
    def _types(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """One way to say it: `ticket_types`."""
        if "ticket_types" not in data:
            _price_of(data)
            one = general(data.pop("total_tickets"), data.pop("price"), data.pop("currency", None))
            data["ticket_types"] = [one]
        return data


class UpdateSchema(DetailsSchema):
    """PATCH /events/<event_id>: the fields to set. Null takes one away."""

    name = Text(length_max=NAME_LENGTH_MAX)
    total_tickets = Whole(
        validate=validate.Range(1, TOTAL_TICKETS_MAX),
        metadata={"description": "With price and currency: of an event with one ticket type."},
    )
    price = Price()
    currency = Currency()
    ticket_types = fields.List(
        fields.Nested(TicketTypeChangeSchema),
        validate=[validate.Length(1, TICKET_TYPES_MAX), _have_different_codes],
        metadata={"description": "A type that is not named stays as it is; a new code makes a new type."},
    )

    @post_load
    def _exact(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        if "price" in data or "currency" in data:
            _with_currency(data)
        return data


class BookSchema(StrictSchema):
    """POST /book."""

    event_id = _event_id(required=True, metadata={"examples": ["concert-2027"]})
    user_id = UserId(metadata={"description": "The caller unless told.", "examples": ["ada"]})
    quantity = Whole(
        load_default=1,
        validate=validate.Range(min=1),
        metadata={"description": f"1 to the event's max_tickets_per_order ({MAX_TICKETS_PER_ORDER})."},
    )
    ticket_type = Code("Needed where the event has several.")


class BulkBookingSchema(StrictSchema):
    """One booking of POST /bookings/bulk."""

    user_id = UserId(required=True, metadata={"examples": ["ada"]})
    quantity = Whole(load_default=1, validate=validate.Range(min=1))
    ticket_type = Code()


class BulkSchema(StrictSchema):
    """POST /bookings/bulk."""

    event_id = _event_id(required=True, metadata={"examples": ["concert-2027"]})
    mode = fields.String(
        load_default="each",
        validate=validate.OneOf(["each", "all_or_none"]),
        metadata={"description": "`all_or_none`: all are confirmed, or nothing is booked."},
    )
    orders = fields.List(
        fields.Nested(BulkBookingSchema), required=True, validate=validate.Length(1, BULK_MAX)
    )


class TransferSchema(StrictSchema):
    """POST /orders/<order_id>/transfer."""

    to_user_id = UserId(required=True, metadata={"examples": ["bob"]})
    quantity = Whole(validate=validate.Range(min=1), metadata={"description": "All tickets unless told."})


class CancelSchema(StrictSchema):
    """POST /cancel: an order by its id, or a user's active order for an event, the caller's unless told."""

    class Meta(StrictSchema.Meta):
        json_schema = {
            "oneOf": [
                {"required": ["order_id"], "properties": {"event_id": _NEVER, "user_id": _NEVER}},
                {"required": ["event_id"], "properties": {"order_id": _NEVER}},
            ]
        }

    order_id = Text(length_max=ORDER_ID_LENGTH_MAX)
    event_id = _event_id(metadata={"examples": ["concert-2027"]})
    user_id = UserId(metadata={"examples": ["ada"], "description": "The caller unless told."})
    quantity = Whole(
        validate=validate.Range(min=1),
        metadata={"description": "So many tickets of it; the order stays, smaller. All of them unless told."},
    )

    @validates_schema
    def _names_one_order(self, data: dict[str, Any], **kwargs: Any) -> None:
        if set(data) - {"quantity"} not in ({"order_id"}, {"event_id"}, {"event_id", "user_id"}):
            raise ValidationError("Send either order_id, or event_id, and with it user_id for another than yourself.")


class PageQuerySchema(StrictSchema):
    """The query of every list."""

    limit = Limit()
    after = fields.String(
        metadata={"description": "The `next` of the page before.", "pattern": "^[A-Za-z0-9_-]+$"}
    )


class EventsQuerySchema(PageQuerySchema):
    """The query of the events."""

    status = fields.String(
        validate=validate.OneOf([status.value for status in EventStatus]),
        metadata={"description": "Only events that have this status now."},
    )
    q = Text(
        length_max=NAME_LENGTH_MAX,
        metadata={"description": "A text in name, venue or description, in any case.", "examples": ["hall"]},
    )


class OrdersQuerySchema(PageQuerySchema):
    """The query of an event's orders."""

    status = fields.String(
        validate=validate.OneOf([status.value for status in OrderStatus]),
        metadata={"description": "Only orders that have this status now."},
    )
    user_id = fields.String(post_load=normal, metadata={"description": "Only the orders of this user."})


class UserOrdersQuerySchema(PageQuerySchema):
    """The query of a user's orders."""

    user_id = fields.String(
        post_load=normal, metadata={"description": "The caller unless told. Others only for staff."}
    )


class ChangesQuerySchema(StrictSchema):
    """The query of an event's changes."""

    limit = Limit()
    after = Digits(
        load_default=0,
        validate=validate.Range(0, VERSION_MAX),
        metadata={"description": "A version: the `next` of the page before."},
    )
    wait = Digits(
        load_default=0,
        validate=validate.Range(0, CHANGES_WAIT_S_MAX),
        metadata={"description": "How many seconds to wait when there are no changes yet."},
    )


class RegisterSchema(StrictSchema):
    """POST /users."""

    user_id = UserId(
        required=True,
        validate_more=[_is_account_name],
        metadata={"examples": ["ada"], "pattern": ACCOUNT_NAME_PATTERN},
    )
    password = Password()
    role = fields.String(load_default=Role.CUSTOMER.value, validate=validate.OneOf([role.value for role in Role]))


class ChangeMyAccountSchema(StrictSchema):
    """PATCH /users/me."""

    current_password = fields.String(required=True, validate=[validate.Length(1, 1024), _is_unicode])
    password = Password()


class ChangeAccountSchema(StrictSchema):
    """PATCH /users/<user_id>."""

    class Meta(StrictSchema.Meta):
        json_schema = {"minProperties": 1}

    password = Password(required=False)
    role = fields.String(validate=validate.OneOf([role.value for role in Role]))

    @validates_schema
    def _changes_something(self, data: dict[str, Any], **kwargs: Any) -> None:
        if not data:
            raise ValidationError("Send password or role.")


class RefreshTokenSchema(StrictSchema):
    """POST /auth/refresh, /auth/revoke."""

    refresh_token = fields.String(required=True, validate=validate.Length(1, 200))


class SubscribeSchema(StrictSchema):
    """POST /webhooks."""

    url = Text(
        length_max=URL_LENGTH_MAX,
        required=True,
        metadata={
            "description": "Where to POST to: https, a public address.",
            "examples": ["https://example.com/tickets"],
        },
    )
    event_id = _event_id(
        metadata={"description": "Only of this event; an admin may leave it out.", "examples": ["concert-2027"]}
    )
    types = fields.List(
        fields.String(validate=validate.OneOf([kind.value for kind in NoticeType])),
        validate=[validate.Length(1, len(NoticeType)), _are_different],
        metadata={"uniqueItems": True, "description": "Only of these types; all without it."},
    )


class WebhooksQuerySchema(StrictSchema):
    """The query of the webhooks."""

    limit = Limit()
    after = fields.String(
        load_default="",
        validate=validate.Length(max=100),
        metadata={"description": "The `next` of the page before."},
    )


class DeliveriesQuerySchema(StrictSchema):
    """The query of a webhook's deliveries."""

    limit = Limit()


class ReplayQuerySchema(StrictSchema):
    """The query of a replay."""

    after = Digits(
        required=True,
        validate=validate.Range(0, VERSION_MAX),
        metadata={"description": "A version of the event."},
    )
    event_id = fields.String(metadata={"description": "Needed for a webhook of all events."})


# Out.


class StockSchema(Schema):
    """What is left of a ticket type: booked + available + held = total."""

    code = fields.String(attribute="ticket_type.code", metadata={"description": "What bookings name the type by."})
    name = fields.String(attribute="ticket_type.name", metadata={"description": "For people."})
    price = fields.String(attribute="ticket_type.price", metadata={"description": "Of one ticket, in the currency."})
    currency = fields.String(
        attribute="ticket_type.currency", allow_none=True, metadata={"description": "ISO 4217; null where it is free."}
    )
    total_tickets = fields.Integer(attribute="ticket_type.total_tickets", metadata={"description": "Of this type."})
    available_tickets = fields.Integer(metadata={"description": "What a new booking of this type could get now."})
    booked_tickets = fields.Integer(metadata={"description": "In confirmed orders."})
    held_tickets = fields.Integer(
        metadata={"description": "Free, but of the first in the waiting list, who needs more of them than are free."}
    )
    waiting_list_count = fields.Integer(metadata={"description": "Orders that wait for this type."})


class StatusSchema(Schema):
    """GET /status/<event_id>: booked + available + held = total."""

    event_id = fields.String(metadata={"description": "What the event is called in paths and bodies."})
    name = fields.String(attribute="event.name", metadata={"description": "For people."})
    status = fields.String(
        metadata={
            "description": "At this moment, by the clock of the service.",
            "enum": [status.value for status in EventStatus],
        }
    )
    total_tickets = fields.Integer(metadata={"description": "Of all types."})
    available_tickets = fields.Integer(metadata={"description": "What a new booking could get now."})
    booked_tickets = fields.Integer(metadata={"description": "In confirmed orders."})
    held_tickets = fields.Integer(
        metadata={
            "description": "Free tickets that belong to the waiting list, whose first order needs more of them "
            "than are free."
        }
    )
    waiting_list_count = fields.Integer(metadata={"description": "Orders that wait."})
    version = fields.Integer(metadata={"description": "The number of the event's last transition."})
    ticket_types = fields.List(
        fields.Nested(StockSchema), attribute="stocks", metadata={"description": "The same for each ticket type."}
    )


class EventSchema(StatusSchema):
    """An event: its status and its details."""

    max_tickets_per_order = fields.Integer(
        attribute="event.max_tickets_per_order", metadata={"description": "The most that one booking may ask for."}
    )
    max_tickets_per_user = fields.Integer(
        attribute="event.max_tickets_per_user",
        allow_none=True,
        metadata={"description": "The most that one user may have; null: only `max_tickets_per_order` bounds it."},
    )
    venue = fields.String(attribute="event.venue", allow_none=True, metadata={"description": "Where it is."})
    description = fields.String(attribute="event.description", allow_none=True, metadata={"description": "For people."})
    timezone = fields.String(
        attribute="event.timezone", allow_none=True, metadata={"description": "Of the venue, for people: an IANA name."}
    )
    starts_at = Timestamp(
        attribute="event.starts_at", allow_none=True, metadata={"description": "When it begins; null: not told."}
    )
    ends_at = Timestamp(
        attribute="event.ends_at", allow_none=True, metadata={"description": "When it ends; null: not told."}
    )
    sales_open_at = Timestamp(
        attribute="event.sales_open_at",
        allow_none=True,
        metadata={"description": "The first moment of the sale; null: at once."},
    )
    sales_close_at = Timestamp(
        attribute="event.sales_close_at",
        allow_none=True,
        metadata={"description": "The end of the sale; null: when the event ends, if ever."},
    )
    transfer_close_at = Timestamp(
        attribute="event.transfer_close_at",
        allow_none=True,
        metadata={"description": "Until then tickets may change hands; null: until it starts, if ever."},
    )
    cancelled_at = Timestamp(
        attribute="event.cancelled_at",
        allow_none=True,
        metadata={"description": "When it was cancelled; null: it was not."},
    )
    created_at = Timestamp(attribute="event.created_at", metadata={"description": "When it was opened."})
    updated_at = Timestamp(
        metadata={
            "description": "When it or one of its orders last changed. What is remembered for an `Idempotency-Key` and "
            "changes nothing raises `version` alone."
        }
    )


class EventPageSchema(Schema):
    """A page of events, those that begin first in front."""

    items = fields.List(fields.Nested(EventSchema), metadata={"description": "The events of this page."})
    next = Next()


class AvailabilitySchema(Schema):
    """GET /events/<event_id>/availability."""

    event_id = fields.String(metadata={"description": "The event's id."})
    available_tickets = fields.Integer(metadata={"description": "What a new booking could get now."})
    total_tickets = fields.Integer(metadata={"description": "Of all types."})
    version = fields.Integer(metadata={"description": "The number of the event's last transition."})
    ticket_types = fields.List(
        fields.Nested(StockSchema), attribute="stocks", metadata={"description": "The same for each ticket type."}
    )


class OrderSchema(Schema):
    """An order."""

    order_id = fields.String(
        metadata={
            "description": "Cannot be guessed. Whoever books under the same name is told it: 409 `already_booked`."
        }
    )
    event_id = fields.String(metadata={"description": "The event's id."})
    user_id = fields.String(metadata={"description": "Whose order it is."})
    ticket_type = fields.String(metadata={"description": "Its code."})
    quantity = fields.Integer(metadata={"description": "Tickets: all of them are confirmed, or all wait."})
    unit_price = fields.String(metadata={"description": "That of the moment at which it was booked."})
    total_price = fields.String(metadata={"description": "`quantity` times `unit_price`."})
    currency = fields.String(allow_none=True, metadata={"description": "ISO 4217; null where it is free."})
    status = fields.String(
        metadata={
            "description": "`confirmed`, or `waiting` in line, or `cancelled`.",
            "enum": [status.value for status in OrderStatus],
        }
    )
    waiting_position = fields.Integer(
        allow_none=True, metadata={"description": "1 for the first in line; null for who does not wait."}
    )
    created_at = Timestamp(metadata={"description": "When it was booked."})
    updated_at = Timestamp(metadata={"description": "When it was last changed."})
    version = fields.Integer(metadata={"description": "The number of the event's transition that changed it last."})


class UpdatedSchema(EventSchema):
    """An event after a change, and the orders that moved up because of it."""

    promoted = fields.List(
        fields.Nested(OrderSchema),
        metadata={"description": "Orders that have got their tickets from the waiting list because of it."},
    )


class CancelledSchema(Schema):
    """What a cancellation did: the order, and those that moved up because of it."""

    order = fields.Nested(OrderSchema, metadata={"description": "The order as it is now."})
    promoted = fields.List(
        fields.Nested(OrderSchema),
        metadata={"description": "Orders that have got these tickets from the waiting list."},
    )


class TransferredSchema(Schema):
    """What a transfer did: the recipient's order, and the sender's."""

    order = fields.Nested(OrderSchema, metadata={"description": "The recipient's, which is new."})
    sender = fields.Nested(OrderSchema, data_key="from", metadata={"description": "What is left of the sender's."})


class ProblemBody(fields.Nested):
    """A problem in the midst of an answer, with all the members that it has."""

    def __init__(self) -> None:
        super().__init__(lambda: ProblemSchema(), metadata={"description": "Without an order: why there is none."})

    def _serialize(self, nested_obj: Any, attr: Any, obj: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return nested_obj


class BulkResultSchema(Schema):
    """What became of one booking: 201 confirmed or 202 waiting with its order, else a problem."""

    status = fields.Integer(metadata={"description": "201 confirmed, 202 waiting, else that of its problem."})
    order = fields.Nested(OrderSchema, metadata={"description": "With 201 and 202."})
    error = ProblemBody()


class BulkResultsSchema(Schema):
    """A result for each booking, in their order."""

    results = fields.List(
        fields.Nested(BulkResultSchema), metadata={"description": "One for each booking, in the order of the request."}
    )


class WaitingSchema(Schema):
    """A place in the waiting list of a ticket type. Only staff see whose it is."""

    position = fields.Integer(metadata={"description": "1 for the first in line for this ticket type."})
    ticket_type = fields.String(metadata={"description": "Its code."})
    quantity = fields.Integer(metadata={"description": "Tickets that the order waits for."})
    joined_at = Timestamp(metadata={"description": "When it was booked."})
    order_id = fields.String(metadata={"description": "Staff only."})
    user_id = fields.String(metadata={"description": "Staff only."})


class WaitingPageSchema(Schema):
    """A page of the waiting list, first come first."""

    items = fields.List(fields.Nested(WaitingSchema), metadata={"description": "The places of this page."})
    next = Next()


class OrderPageSchema(Schema):
    """A page of orders in the order of their arrival."""

    items = fields.List(fields.Nested(OrderSchema), metadata={"description": "The orders of this page."})
    next = Next()


class EntrySchema(Schema):
    """A change of an order; status and quantity are those after it."""

    version = fields.Integer(metadata={"description": "The number of the event's transition."})
    type = fields.String(metadata={"description": "What happened.", "enum": [kind.value for kind in EntryType]})
    at = Timestamp(metadata={"description": "When."})
    by = fields.String(
        allow_none=True,
        metadata={"description": "Who did it; null for somebody unknown, or whom the caller need not know."},
    )
    status = fields.String(metadata={"description": "After it.", "enum": [status.value for status in OrderStatus]})
    quantity = fields.Integer(metadata={"description": "Tickets after it."})
    sender = fields.String(
        data_key="from",
        allow_none=True,
        metadata={"description": "With `transferred`: the order that the tickets came from."},
    )
    recipient = fields.String(
        data_key="to",
        allow_none=True,
        metadata={"description": "With `transferred`: the order that the tickets went to."},
    )


class HistorySchema(Schema):
    """All that happened to an order, in order. There is no next page."""

    items = fields.List(fields.Nested(EntrySchema), metadata={"description": "All that happened, in order."})
    next = Next()


class ChangeSchema(Schema):
    """A change of an event, and the orders that it changed, as they are after it."""

    version = fields.Integer(metadata={"description": "The number of the event's transition."})
    type = fields.String(
        metadata={
            "description": "What happened.",
            "enum": [kind.value for kind in TransitionType if kind is not TransitionType.REMEMBERED],
        }
    )
    at = Timestamp(metadata={"description": "When."})
    by = fields.String(allow_none=True, metadata={"description": "Who did it; null for somebody unknown."})
    orders = fields.List(
        fields.Nested(OrderSchema), metadata={"description": "Those that it changed, as they were after it."}
    )


class ChangePageSchema(Schema):
    """A page of changes in the order in which they happened."""

    items = fields.List(fields.Nested(ChangeSchema), metadata={"description": "The changes of this page."})
    next = fields.Integer(metadata={"description": "The version to go on from."})


class UserSchema(Schema):
    """A user."""

    user_id = fields.String(metadata={"description": "The name to sign in with."})
    role = fields.String(metadata={"description": "What the user may do.", "enum": [role.value for role in Role]})


class UserPageSchema(Schema):
    """A page of users by id."""

    items = fields.List(fields.Nested(UserSchema), metadata={"description": "The users of this page."})
    next = Next()


class TokensSchema(Schema):
    """What a login or a refresh gives."""

    access_token = fields.String(metadata={"description": "For `Authorization: Bearer`."})
    token_type = fields.String(metadata={"description": "How to send it.", "enum": ["Bearer"]})
    expires_in = fields.Integer(metadata={"description": "Seconds until the access token ends."})
    refresh_token = fields.String(metadata={"description": "For `POST /auth/refresh`, once."})


class FailingSchema(Schema):
    """A receiver that does not take what it is sent."""

    since = Timestamp(metadata={"description": "When it did not take the notice for the first time."})
    attempts = fields.Integer(metadata={"description": "How often it was tried since."})
    error = fields.String(metadata={"description": "What went wrong the last time."})
    next_attempt_at = Timestamp(metadata={"description": "When it is tried again."})


class WebhookSchema(Schema):
    """A webhook, without its secret."""

    webhook_id = fields.String(metadata={"description": "The webhook's id."})
    url = fields.String(metadata={"description": "Where notices are sent to."})
    event_id = fields.String(allow_none=True, metadata={"description": "null: of all events."})
    types = fields.List(fields.String(), allow_none=True, metadata={"description": "null: of all types."})
    created_by = fields.String(metadata={"description": "The user whose it is."})
    created_at = Timestamp(metadata={"description": "When it was made."})
    disabled_reason = fields.String(allow_none=True, metadata={"description": "null: it is served."})
    failing = fields.Nested(FailingSchema, allow_none=True, metadata={"description": "null: all was taken."})


class NewWebhookSchema(WebhookSchema):
    """A webhook just made, with the secret that signs what it is sent. It is not shown again."""

    secret = fields.String(metadata={"description": "Signs each notice. It is not shown again."})


class WebhookPageSchema(Schema):
    """A page of webhooks."""

    items = fields.List(fields.Nested(WebhookSchema), metadata={"description": "The webhooks of this page."})
    next = Next()


class DeliverySchema(Schema):
    """An attempt to deliver a notice."""

    message_id = fields.String(metadata={"description": "The header `webhook-id`."})
    type = fields.String(
        metadata={"description": "What the notice tells of.", "enum": [kind.value for kind in NoticeType]}
    )
    event_id = fields.String(metadata={"description": "The event that it is about."})
    version = fields.Integer(metadata={"description": "The event's transition that it is about."})
    at = Timestamp(metadata={"description": "When it was tried."})
    attempt = fields.Integer(metadata={"description": "1 for the first."})
    duration_ms = fields.Integer(metadata={"description": "How long the receiver took."})
    http_status = fields.Integer(allow_none=True, metadata={"description": "null: there was no answer."})
    error = fields.String(allow_none=True, metadata={"description": "null: it was taken."})


class DeliveryPageSchema(Schema):
    """The last attempts, the newest first. There is no next page."""

    items = fields.List(fields.Nested(DeliverySchema), metadata={"description": "The attempts."})
    next = Next()


class HealthSchema(Schema):
    """GET /healthz, /readyz."""

    status = fields.String(metadata={"description": "All is well.", "enum": ["ok"]})


class ProblemSchema(Schema):
    """RFC 9457. Some codes bring members of their own, such as `order_id` or `maximum`."""

    class Meta:
        unknown = INCLUDE  # to /openapi.json: further members are allowed

    type = fields.String(metadata={"description": "A URI that stands for the code."})
    title = fields.String(metadata={"description": "The name of the status."})
    status = fields.Integer(metadata={"description": "The status of the answer."})
    detail = fields.String(metadata={"description": "What went wrong, for people."})
    code = fields.String(metadata={"description": "Stable, snake_case: what to decide on."})
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        metadata={"description": "With 422: the messages by field."},
    )


_COUNTS = ("total_tickets", "available_tickets", "booked_tickets", "held_tickets", "waiting_list_count")


class SeenEvent:
    """An event as `EventSchema` shows it at a time: whether it is on sale is a matter of the clock."""

    def __init__(self, state: EventState | SummarizedEvent, at: datetime, promoted: Iterable[Order] = ()) -> None:
        self._state = state
        self.status = state.status_at(at)
        self.promoted = [order_view(order) for order in promoted]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)


def order_view(order: Order, waiting_position: int | None = None) -> dict[str, Any]:
    """An order as `OrderSchema` shows it: its place in line is not a part of it, others move it."""
    return order._asdict() | {"total_price": order.total_price, "waiting_position": waiting_position}


def order_json(order: Order, waiting_position: int | None = None) -> dict[str, Any]:
    """What `OrderSchema` makes of it, at a tenth of the cost: for the answers that many wait for."""
    created_at = rfc3339(order.created_at)
    return {
        "order_id": order.order_id,
        "event_id": order.event_id,
        "user_id": order.user_id,
        "ticket_type": order.ticket_type,
        "quantity": order.quantity,
        "unit_price": str(order.unit_price),
        "total_price": str(order.total_price),
        "currency": order.currency,
        "status": order.status.value,
        "waiting_position": waiting_position,
        "created_at": created_at,
        "updated_at": created_at if order.updated_at is order.created_at else rfc3339(order.updated_at),
        "version": order.version,
    }


def status_json(state: EventState, at: datetime) -> dict[str, Any]:
    """What `StatusSchema` makes of an event that is initialized, at a tenth of the cost."""
    assert state.event is not None
    stocks = [
        {
            "code": stock.ticket_type.code,
            "name": stock.ticket_type.name,
            "price": str(stock.ticket_type.price),
            "currency": stock.ticket_type.currency,
            "total_tickets": stock.ticket_type.total_tickets,
            "available_tickets": stock.available_tickets,
            "booked_tickets": stock.booked_tickets,
            "held_tickets": stock.held_tickets,
            "waiting_list_count": stock.waiting_list_count,
        }
        for stock in state.stocks
    ]
    counts: dict[str, Any] = {name: sum(stock[name] for stock in stocks) for name in _COUNTS}
    return {
        "event_id": state.event_id,
        "name": state.event.name,
        "status": state.event.status_at(at, counts["available_tickets"]).value,
        **counts,
        "version": state.version,
        "ticket_types": stocks,
    }


def change_view(change: Change) -> dict[str, Any]:
    """A change as `ChangeSchema` shows it."""
    return change._asdict() | {
        "orders": [order_view(changed.order, changed.waiting_position) for changed in change.orders]
    }
