"""Structured logs on standard error: lines for people, or JSON for collectors."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def _as_if_not_installed(module: str) -> Iterator[None]:
    there = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
        if there is not None:
            sys.modules[module] = there


# structlog would load it for tracebacks that are not ours: a tenth of the time to start.
with _as_if_not_installed("rich"):
    import structlog
    from structlog.stdlib import get_logger as get_logger
    from structlog.typing import EventDict, Processor

LEVELS = ("debug", "info", "warning", "error")


def _printable(_logger: object, _method: str, fields: EventDict) -> EventDict:
    """Fields hold what peers say: nothing of it may steer a terminal or forge a line."""
    for name, value in fields.items():
        if name != "event" and isinstance(value, str) and not value.isprintable():
            fields[name] = repr(value)[1:-1]
    return fields


def configure(level: str, style: str, stream: TextIO | None = None) -> None:
    """Send every logger of the process, structlog's and the standard library's, to one place.

    :param level: one of :data:`LEVELS`.
    :param style: ``console`` (key=value, coloured on a terminal) or ``json``.
    """
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks without the values of variables: those may be keys and tokens.
    renderer: list[Processor]
    if style == "json":
        traceback = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        renderer = [
            structlog.processors.ExceptionRenderer(traceback),
            structlog.processors.JSONRenderer(),
        ]
    else:
        renderer = [
            _printable,
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(),
                pad_event_to=0,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
