"""The operator's commands, `flask --app wsgi …`.

    database.py  init-db
    events.py    events list, show, init
    ledger.py    ledger verify, export, import
    loadtest.py  loadtest, with the crowd of crowd.py
    users.py     users create, list, set-role, reset-password
    webhooks.py  webhooks deliver
    terminal.py  what they share: sentences, progress, exit statuses
"""

from __future__ import annotations

from flask import Flask

from .database import init_db
from .events import event_commands
from .ledger import ledger_commands
from .loadtest import load_test
from .users import user_commands
from .webhooks import webhooks_commands


def register_cli(app: Flask) -> None:
    """Add the commands to `flask --app wsgi`."""
    for command in (init_db, event_commands, ledger_commands, load_test, user_commands, webhooks_commands):
        app.cli.add_command(command)
