"""The receiver that docs/webhooks.md shows does what the document says."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.ports import free_port
from tests.service.running import eventually
from ticketing.delivery.sender import Outcome, Sender

RECEIVER = Path(__file__).parents[2] / "docs" / "receiver.py"
SECRET = "whsec_" + "c2VjcmV0" * 5
BODY = '{"type": "order.promoted", "data": {"order": {"user_id": "dan"}}}'


def test_the_example_verifies_and_forgets_repeats(tmp_path: Path) -> None:
    """A right signature is taken and shown once, however often it comes; another secret or an old message is not."""
    port, output = free_port(), tmp_path / "output.txt"
    command = [sys.executable, str(RECEIVER), f"127.0.0.1:{port}"]
    with output.open("wb") as out:
        process = subprocess.Popen(command, env={**os.environ, "WEBHOOK_SECRET": SECRET}, stdout=out)
    sender = Sender(allow_private=True, deadline_s=30.0)

    def send(message_id: str, secret: str = SECRET, age_s: int = 0) -> Outcome:
        at = datetime.now(UTC) - timedelta(seconds=age_s)
        return sender.send(f"http://127.0.0.1:{port}/", secret, message_id, at, BODY)

    try:
        eventually(lambda: is_listening(port))
        assert [send(each).http_status for each in ("msg_1", "msg_1", "msg_2")] == [204, 204, 204]
        assert send("msg_3", "whsec_" + "b3RoZXJz" * 5).http_status == 401
        assert send("msg_4", age_s=600).http_status == 401
        assert output.read_text() == "order.promoted dan\n" * 2
    finally:
        process.kill()
        process.wait()
        sender.close()


def is_listening(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
