"""A seeded simulator: the real domain, manager and ledger code on a simulated MongoDB, clock and scheduler.

    scheduler.py   virtual time, and tasks that run one at a time in an order drawn from the seed
    collection.py  a replica set's collection that loses, delays, rolls back and stalls
    world.py       workers that crash, clients that time out and repeat, and the story of one seed
    controls.py    the real code with one protection taken out each, and the violation by which the checker must notice
    seeds.py       many seeds on all cores, or one told; and at which seed each control is noticed
    __main__.py    python -m tests.faults.simulator SEEDS FIRST_SEED

What must be true afterwards is ../checker.py, which real runs go through too.

One seed is one story, always the same: every source of randomness and every order of steps comes from it.
"""
