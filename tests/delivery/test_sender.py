"""One delivery: signed, within its time, and never to an address that is not public."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from ticketing.addresses import is_public
from ticketing.delivery.sender import ANSWER_BYTES_MAX, LookUps, Outcome, Sender

from .conftest import MakeReceiver
from .receiver import Receiver

SECRET = "whsec_" + "c2VjcmV0" * 5
BODY = '{"type": "order.confirmed", "data": {"user_id": "Zoë"}}'


@pytest.fixture
def sender() -> Iterator[Sender]:
    """One that may send anywhere."""
    sender = Sender(allow_private=True, deadline_s=20.0)
    yield sender
    sender.close()


def send(sender: Sender, url: str) -> Outcome:
    """Send the message of these tests."""
    return sender.send(url, SECRET, "msg_1", datetime.now(UTC), BODY)


class TestSending:
    def test_a_receiver_can_verify_it(self, sender: Sender, receiver: Receiver) -> None:
        """By the library of the specification; and with another secret or body it cannot."""
        assert send(sender, receiver.url) == Outcome(204)
        [received] = receiver.received
        assert received.verify(SECRET) == received.notice
        assert (received.body, received.path, received.message_id) == (BODY, "/hook", "msg_1")
        assert received.headers["content-type"] == "application/json"
        with pytest.raises(WebhookVerificationError):
            received.verify("whsec_" + "b3RoZXJz" * 5)

    def test_an_old_message_is_not_taken_for_a_new_one(self, sender: Sender, receiver: Receiver) -> None:
        """The time of the attempt is signed: who keeps a message cannot send it again tomorrow."""
        sender.send(receiver.url, SECRET, "msg_1", datetime.now(UTC) - timedelta(minutes=10), BODY)
        with pytest.raises(WebhookVerificationError, match="too old"):
            receiver.received[0].verify(SECRET)

    def test_the_connection_is_kept(self, sender: Sender, receiver: Receiver) -> None:
        """For the next message, as long as the receiver likes."""
        for _ in range(3):
            assert send(sender, receiver.url) == Outcome(204)
        assert receiver.connections == 1

    @pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 410, 429, 500, 503])
    def test_anything_but_2xx_is_a_failure(self, sender: Sender, receiver: Receiver, status: int) -> None:
        """A redirect is not followed; 410 is noted."""
        receiver.answer = lambda received: status
        outcome = send(sender, receiver.url)
        assert outcome == Outcome(status, f"answered {status}")
        assert outcome.is_gone == (status == 410)
        assert [each.path for each in receiver.received] == ["/hook"]

    def test_a_long_answer_is_not_read(self, sender: Sender, receiver: Receiver) -> None:
        """The status is enough. Its end never comes, and nobody waits for it."""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"
        receiver.answer = lambda received: head + b"x" * (ANSWER_BYTES_MAX * 2)
        assert send(sender, receiver.url) == Outcome(200)

    def test_an_answer_that_breaks_off_was_an_answer(self, sender: Sender, receiver: Receiver) -> None:
        """Its status is there; the next message goes over a new connection."""
        receiver.answer = lambda received: b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"
        assert send(sender, receiver.url) == Outcome(200)
        receiver.answer = lambda received: 204
        assert send(sender, receiver.url) == Outcome(204)

    def test_no_http(self, sender: Sender, receiver: Receiver) -> None:
        """Or no answer at all."""
        answers = iter([b"SSH-2.0-OpenSSH\r\n", b""])
        receiver.answer = lambda received: next(answers)
        for _ in range(2):
            assert send(sender, receiver.url) == Outcome(error="the connection broke, or the answer was no HTTP")

    def test_nobody_listens(self, sender: Sender, make_receiver: MakeReceiver) -> None:
        """A refused connection, a name that is none, a server without TLS."""
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            for url in (f"http://127.0.0.1:{reserved.getsockname()[1]}/", "http://no-such-name.invalid/"):
                assert send(sender, url) == Outcome(error="no connection")
        assert send(sender, make_receiver().url.replace("http:", "https:")) == Outcome(error="no connection")


class TestTime:
    def test_a_receiver_that_hangs(self, receiver: Receiver) -> None:
        """It is waited for until the deadline."""
        receiver.answer = receiver.hang
        sender = Sender(allow_private=True, deadline_s=0.2)
        assert send(sender, receiver.url) == Outcome(error="no answer within 0.2 s")
        sender.close()

    def test_an_answer_that_drips(self) -> None:
        """Each byte comes in time, the whole does not: it is the whole that counts."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            def drip() -> None:
                connection, _ = server.accept()
                with connection:
                    try:
                        while connection.send(b"H"):
                            time.sleep(0.02)
                    except OSError:
                        pass  # the sender has gone

            thread = threading.Thread(target=drip)
            thread.start()
            sender = Sender(allow_private=True, deadline_s=0.5)
            assert send(sender, f"http://127.0.0.1:{server.getsockname()[1]}/").error is not None
            sender.close()
            thread.join()


class NameServer:
    """In the place of `socket.getaddrinfo`: it answers nobody before `answers` is set."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.address = address
        self.answers = threading.Event()
        self.asked: list[threading.Thread] = []

    def __call__(self, host: str, port: int, **options: Any) -> Any:
        """The address, at last."""
        self.asked.append(threading.current_thread())
        self.answers.wait(10.0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.address, port))]


class TestNameServersThatHang:
    def test_the_deadline_counts_from_the_look_up_on(self, receiver: Receiver) -> None:
        """Nobody waits any longer; many tries have one thread between them, which holds up no end of the process; and
        when names are answered again, messages arrive."""
        resolve = NameServer()
        sender = Sender(allow_private=True, deadline_s=0.3, resolve=resolve)
        for _ in range(3):
            began_s = time.monotonic()
            assert send(sender, f"http://slow.example:{receiver.port}/") == Outcome(error="no answer within 0.3 s")
            assert time.monotonic() - began_s < 5.0
        [thread] = resolve.asked
        assert thread.daemon
        sender.close()
        resolve.answers.set()
        thread.join()
        sender = Sender(allow_private=True, deadline_s=20.0, resolve=resolve)
        assert send(sender, f"http://slow.example:{receiver.port}/") == Outcome(204)
        sender.close()

    def test_an_answer_to_somebody_before(self) -> None:
        """One that comes while the next one waits is taken; what came before that is old, and asked for anew."""
        resolve = NameServer("192.0.2.1")
        look_ups = LookUps(resolve)
        with pytest.raises(TimeoutError):
            look_ups.addresses("slow.example", 443, 0.05)
        threading.Timer(0.1, resolve.answers.set).start()
        assert look_ups.addresses("slow.example", 443, 20.0) == ["192.0.2.1"]
        assert len(resolve.asked) == 1
        resolve.address = "192.0.2.2"
        assert look_ups.addresses("slow.example", 443, 20.0) == ["192.0.2.2"]

    def test_another_name_gets_its_own_answer(self) -> None:
        """Not that of the name before, for whose thread it waits."""
        asked, answers = [], threading.Event()

        def resolve(host: str, port: int, **options: Any) -> Any:
            asked.append(host)
            answers.wait(10.0)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"address of {host}", port))]

        look_ups = LookUps(resolve)
        for host in ("slow.example", "other.example"):
            with pytest.raises(TimeoutError):
                look_ups.addresses(host, 443, 0.05)
        assert asked == ["slow.example"]
        threading.Timer(0.1, answers.set).start()
        assert look_ups.addresses("other.example", 443, 20.0) == ["address of other.example"]

    def test_a_late_answer_is_checked_too(self, receiver: Receiver) -> None:
        """An address that is not public stays one."""
        resolve = NameServer()
        sender = Sender(allow_private=False, deadline_s=20.0, resolve=resolve)
        threading.Timer(0.2, resolve.answers.set).start()
        assert send(sender, f"http://slow.example:{receiver.port}/") == Outcome(error="its address is not a public one")
        assert receiver.connections == 0
        sender.close()


PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
NOT_PUBLIC = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "233.252.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd12:3456::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2002:c0a8:101::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "example.com",
    "2130706433",
    "",
]


class TestAddresses:
    @pytest.mark.parametrize("address", PUBLIC)
    def test_public_ones(self, address: str) -> None:
        """The Internet."""
        assert is_public(address)

    @pytest.mark.parametrize("address", NOT_PUBLIC)
    def test_all_others(self, address: str) -> None:
        """Loopback, the own network, the cloud's metadata, special ones; hidden in IPv6; and what is no address."""
        assert not is_public(address)

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"])
    def test_nothing_is_sent_there(self, receiver: Receiver, host: str) -> None:
        """However the address is written: not even a connection is made."""
        sender = Sender(allow_private=False, deadline_s=20.0)
        assert send(sender, f"http://{host}:{receiver.port}/") == Outcome(error="its address is not a public one")
        assert receiver.connections == 0
        sender.close()

    def test_what_was_checked_is_what_is_connected_to(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A name that leads to a public address when it is checked and to a private one later: one look-up only."""
        asked: list[str] = []

        def resolve(host: str, port: int, **options: Any) -> Any:
            asked.append(host)
            first = "192.0.2.7" if len(asked) > 1 else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (first, port))]

        checked: list[str] = []

        def is_public(address: str) -> bool:
            checked.append(address)
            return True

        monkeypatch.setattr("ticketing.delivery.sender.is_public", is_public)
        sender = Sender(allow_private=False, deadline_s=20.0, resolve=resolve)
        assert send(sender, f"http://rebinding.example:{receiver.port}/") == Outcome(204)
        assert (asked, checked) == (["rebinding.example"], ["127.0.0.1"])
        assert receiver.received[0].headers["host"] == f"rebinding.example:{receiver.port}"
        sender.close()

    def test_a_private_address_among_public_ones_is_left_out(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also when the public one cannot be reached."""

        def resolve(host: str, port: int, **options: Any) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in ("127.0.0.2", "127.0.0.1")]

        monkeypatch.setattr("ticketing.delivery.sender.is_public", lambda address: address == "127.0.0.2")
        for allow_private, outcome in ((False, Outcome(error="no connection")), (True, Outcome(204))):
            sender = Sender(allow_private=allow_private, deadline_s=20.0, resolve=resolve)
            assert send(sender, f"http://both.example:{receiver.port}/") == outcome
            assert receiver.connections == allow_private
            sender.close()
