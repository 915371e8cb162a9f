"""The ledger on mongomock and on a real mongod: one behaviour, and what only a real one can show."""
