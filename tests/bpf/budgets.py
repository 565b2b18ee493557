"""What the verifier may look at: instructions a program, all ways through it counted."""

from __future__ import annotations

BUDGETS = {
    "server_ingress": 2_000,
    "a_open": 150_000,
    "a_ack": 50_000,
    "a_media": 500_000,
    "c_quota": 60_000,
    "device_ingress": 60_000,
    "client_egress": 150_000,
    "b_build": 20_000,
    "b_seal": 150_000,
    "b_output": 10_000,
}
"""The kernel takes 1,000,000; the rest is for changes, and for verifiers that look closer."""
