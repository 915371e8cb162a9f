"""`python -m ticketing` is `make run` after the environment was made."""

import sys

from ticketing.serve import main

sys.exit(main())
