"""The service whose workers tell how many green threads they have."""

from __future__ import annotations

import os

from ticketing import create_app

from .green import tell

app = create_app()
tell(os.getpid())
