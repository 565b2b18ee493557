"""What a shell offers for an argument when Tab is pressed (see ``--install-completion``).

Commands, options and fixed values complete by themselves, files by the shell.
"""

from __future__ import annotations

import typer


def topics(incomplete: str) -> list[str]:
    """Of ``fastrelay explain``: the fields on the next level."""
    from fastrelay.api.reference import lookup

    parent, dot, _ = incomplete.rpartition(".")
    if not dot:
        return [topic for topic in ("spec", "conditions") if topic.startswith(incomplete)]
    try:
        children = lookup(parent).children
    except LookupError:
        return []
    paths = [f"{parent}.{child.name}" for child in children]
    return [path for path in paths if path.startswith(incomplete)]


def stacks(incomplete: str) -> list[str]:
    """Names of what ``fastrelay local up`` started."""
    from fastrelay.local.state import Store

    return [name for name in Store().names() if name.startswith(incomplete)]


def pods(context: typer.Context, incomplete: str) -> list[str]:
    """Of the stack that the command line names."""
    from fastrelay.local.state import Store

    try:
        state = Store().load(context.params.get("name") or "local")
    except ValueError:
        return []
    return [pod for pod in (state.pods if state else ()) if pod.startswith(incomplete)]


def members(context: typer.Context, incomplete: str) -> list[str]:
    """Of the relay that the command line names, and ``all``."""
    from fastrelay.cli.statuspage import UnreachableError, status_page

    try:
        document = status_page(context.params.get("at") or "local")
    except UnreachableError:
        return []
    found = [each["path"]["address"] for each in document["sessions"] if each["subscriptions"]]
    return [member for member in ["all", *found] if member.startswith(incomplete)]
