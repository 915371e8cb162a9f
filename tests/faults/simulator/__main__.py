"""`python -m tests.faults.simulator SEEDS FIRST_SEED`, or with SEED=… in the environment: one story, told; with
CONTROLS=1: at which seed each control is noticed. CONTROL=… names the control that is played."""

import sys

from .seeds import main

sys.exit(main())
