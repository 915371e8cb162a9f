"""Many threads and many processes on one event, and what happens when one of them is stuck."""
