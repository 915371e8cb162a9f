"""The operator's commands, `flask --app wsgi …`.

    database.py  init-db
    ledger.py    ledger verify, ledger export, ledger import
    users.py     users create, list, set-role, reset-password
    webhooks.py  webhooks deliver
    terminal.py  what they share: sentences, progress, exit statuses
"""

from __future__ import annotations

from flask import Flask

from .database import init_db
from .ledger import ledger_commands
from .users import user_commands
from .webhooks import webhooks_commands


def register_cli(app: Flask) -> None:
    """Add the commands to `flask --app wsgi`."""
    app.cli.add_command(init_db)
    app.cli.add_command(ledger_commands)
    app.cli.add_command(user_commands)
    app.cli.add_command(webhooks_commands)
