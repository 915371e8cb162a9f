"""MongoDB, and the only place that knows it.

    client.py     how to connect
    documents.py  transitions <-> documents
    archive.py    the ledger as lines of JSON: export and import
    ledger.py     append a commit, read what came after a version
    schema.py     indexes, and the views that people read
"""
