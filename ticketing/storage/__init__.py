"""MongoDB, and the only place that knows it.

    client.py     how to connect
    documents.py  transitions <-> documents
    archive.py    the ledger as lines of JSON: export and import
    ledger.py     append a commit, read what came after a version
    names.py      a user's name in the ledgers, and its replacement by a pseudonym
    retries.py    trying again until a deadline
    webhooks.py   who wants to be told, and how far each has been
    schema.py     indexes, and the views that people read
    sessions.py   refresh tokens
    users.py      accounts
"""
