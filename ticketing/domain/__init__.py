"""The rules of ticket booking, pure: no I/O, no clock, no randomness. Time and new ids come in as arguments.

    model.py    what there is: events, orders, transitions, the state of an event
    commands.py what can be asked: initialize, book, cancel, pseudonymize
    decide.py   (state, command, at) -> the transition and its answer, or a refusal
    fold.py     (state, transitions) -> state
    refusals.py a code and details -> the refusal that was kept so
    changes.py  what happened, told with the orders as they are after it
    notices.py  what others are told of it
    ranked.py   the waiting list's index: who is first, and at which position is somebody
"""
