"""What the operator is told when it starts; the same for all relays."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """``image``: of relay pods."""

    image: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    priority_class: str = ""
    """For relays that name none."""
    allow_plaintext: bool = False
    """Relays may go without encryption, where their spec wants it."""
