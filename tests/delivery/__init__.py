"""Webhooks against real receivers: who is sent what, in which order, and where nothing is ever sent."""
