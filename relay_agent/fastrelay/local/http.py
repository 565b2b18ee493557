"""GET from a status page that only exists inside a namespace."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from fastrelay.local import netns


def get(namespace: str, port: int, path: str, *, timeout: float = 2.0) -> tuple[int, bytes]:
    """Status and body from the namespace's own loopback.

    :raises OSError: nobody listens, or not in time; also when the answer is not HTTP.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    connection.sock = netns.inside(
        namespace, lambda: socket.create_connection(("127.0.0.1", port), timeout)
    )
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP on port {port}: {error!r}") from error
    finally:
        connection.close()


def get_json(namespace: str, port: int, path: str) -> Any:
    """:raises OSError: as :func:`get`, and for any status but 200."""
    status, body = get(namespace, port, path)
    if status != 200:
        raise OSError(f"{path} answered {status}")
    return json.loads(body)
