"""Packets that the kernel sent: rows of columns for all connections at once.

A connection's row of packet number ``n`` is column ``n % ROWS``; the kernel's packet number
limit keeps two live packets out of one row. Times are seconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

ROWS = 1024


class Account:
    """One connection's part of the ledger."""
