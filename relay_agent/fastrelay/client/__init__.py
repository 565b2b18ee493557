"""MoQT clients: publishers and subscribers for tools and tests.

::

    async with connect("moqt://localhost:4443", options=QuicOptions(insecure=True)) as client:
        async with await client.subscribe(FullTrackName((b"live", b"demo"), b"video")) as video:
            async for item in video: ...
"""

from fastrelay.client.client import Client
from fastrelay.client.connect import connect
from fastrelay.client.errors import (
    ClientError,
    ConnectFailedError,
    RequestFailedError,
    SessionLostError,
    TooSlowError,
)
from fastrelay.client.feedback import FeedbackTrack
from fastrelay.client.namespaces import Announcement
from fastrelay.client.publishing import PublishedTrack
from fastrelay.client.receiving import FetchStream, Subscription
from fastrelay.client.subgroup import Subgroup
from fastrelay.client.values import NamespaceChange, QueueLimits, ReceivedObject, SubgroupEnd

__all__ = [
    "Announcement",
    "Client",
    "ClientError",
    "ConnectFailedError",
    "FeedbackTrack",
    "FetchStream",
    "NamespaceChange",
    "PublishedTrack",
    "QueueLimits",
    "ReceivedObject",
    "RequestFailedError",
    "SessionLostError",
    "Subgroup",
    "SubgroupEnd",
    "Subscription",
    "TooSlowError",
    "connect",
]
