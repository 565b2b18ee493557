"""The option that says whether the kernel forwards."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fastrelay.api.delivery import Mode


class FastPath(StrEnum):
    """As ``spec.fastPath.mode`` of a `MoQRelay`, in words for a command line."""

    AUTO = "auto"
    REQUIRED = "required"
    OFF = "off"

    @property
    def mode(self) -> Mode:
        """What the resource calls it."""
        modes: dict[FastPath, Mode] = {
            FastPath.AUTO: "Auto",
            FastPath.REQUIRED: "Required",
            FastPath.OFF: "Disabled",
        }
        return modes[self]


_HELP = (
    "Whether the kernel forwards media: where it can (auto), always (or nothing is started), never."
)
FastPathOption = Annotated[FastPath, typer.Option(help=_HELP)]
FastPathOverride = Annotated[
    FastPath | None, typer.Option(help=_HELP + " Default: as `spec.fastPath.mode` says.")
]
NoEncryptionOption = Annotated[
    bool,
    typer.Option(
        "--insecure-no-encryption",
        help="Let relay, publisher and viewers of our own do without encryption after the "
        "handshake: for laboratories.",
    ),
]
