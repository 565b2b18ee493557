"""Measurements of the relay beside others; see README.md."""
