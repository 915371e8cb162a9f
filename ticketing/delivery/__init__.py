"""Webhooks: tell receivers what happens, after the Standard Webhooks specification, from the ledger.

    sender.py     one signed POST, within a deadline, to an address that was checked
    messages.py   what is sent: the id and the body of a notice
    deliverer.py  who serves which subscription, in order, at least once
"""
