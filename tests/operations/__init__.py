"""What stands in docs/operations/ for machines to read."""
