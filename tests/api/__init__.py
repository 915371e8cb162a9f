"""The HTTP contract, endpoint by endpoint, through Werkzeug's test client."""
