"""`python -m tests.faults.simulator SEEDS FIRST_SEED`, or with SEED=… in the environment: one story, told."""

import sys

from .seeds import main

sys.exit(main())
