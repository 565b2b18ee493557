"""The socket: order, full buffers, refused segmentation, errors of the network."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fastrelay.native.datagrams import Batch
from fastrelay.native.library import LIBRARY
from fastrelay.quic import udp
from fastrelay.quic.udp import UdpSocket

BUFFERS = {"receive_buffer": 1 << 20, "send_buffer": 1 << 20}


class Flaky:
    """A socket whose sends fail as told: an exception per call, or None to let it pass."""

    def __init__(self, sock: socket.socket) -> None:
        self.real = sock
        self.failures: list[OSError | None] = []
        self.segmented = 0

    def _fail(self) -> None:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure

    def sendto(self, data: bytes, address: Any) -> int:
        self._fail()
        return self.real.sendto(data, address)

    def sendmsg(self, *arguments: Any) -> int:
        self._fail()
        self.segmented += 1
        return self.real.sendmsg(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with udp.bind("127.0.0.1", 0, **BUFFERS) as sock:
        yield sock


@pytest.fixture
async def flaky() -> Any:
    sock = Flaky(udp.bind("127.0.0.1", 0, **BUFFERS))
    sender = UdpSocket(sock, asyncio.get_running_loop())  # type: ignore[arg-type]
    yield sock, sender
    sender.close()


def datagrams(receiver: socket.socket, *data: bytes) -> list[udp.Datagram]:
    address = receiver.getsockname()
    return [(one, address) for one in data]


def received(receiver: socket.socket) -> list[bytes]:
    out = []
    try:
        while True:
            out.append(receiver.recv(65_535))
    except BlockingIOError:
        return out


@pytest.mark.parametrize(
    ("sizes", "calls"),
    [
        ([1200] * 5, 1),
        ([1200, 1200, 700], 1),
        ([1200, 1200, 700, 1200, 1200], 2),
        ([700, 1200, 1200], 1),
        ([1200] * 130, 3),
    ],
)
async def test_equal_sizes_leave_together(
    flaky: tuple[Flaky, UdpSocket], receiver: socket.socket, sizes: list[int], calls: int
) -> None:
    sock, sender = flaky
    sent = datagrams(receiver, *(bytes([n % 256]) * size for n, size in enumerate(sizes)))
    sender.send(sent)
    assert received(receiver) == [data for data, _ in sent]
    assert sock.segmented == calls


async def test_without_segmentation_each_leaves_alone(
    flaky: tuple[Flaky, UdpSocket], receiver: socket.socket
) -> None:
    sock, sender = flaky
    sock.failures = [OSError(errno.EIO, "no checksum offload")]
    for _ in range(2):
        sender.send(datagrams(receiver, b"one", b"two", b"six"))
        assert received(receiver) == [b"one", b"two", b"six"]
    assert sock.segmented == 0


@pytest.mark.parametrize("full_at", [0, 1, 2])
async def test_a_full_buffer_delays_and_keeps_the_order(
    flaky: tuple[Flaky, UdpSocket], receiver: socket.socket, full_at: int
) -> None:
    sock, sender = flaky
    sock.failures = [None] * full_at + [BlockingIOError()]
    sender.send(datagrams(receiver, b"1", b"22", b"333"))
    sender.send(datagrams(receiver, b"4444"))
    before = received(receiver)
    assert before == [b"1", b"22", b"333"][:full_at]
    async with asyncio.timeout(60):
        while sender.queued:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert before + received(receiver) == [b"1", b"22", b"333", b"4444"]
    assert sender.dropped == 0


async def test_the_queue_is_bounded(
    flaky: tuple[Flaky, UdpSocket], receiver: socket.socket
) -> None:
    sock, sender = flaky
    sock.failures = [BlockingIOError()]
    sender.send(datagrams(receiver, *[b"x%d" % n for n in range(5000)]))
    assert sender.queued == 4096
    assert sender.dropped == 5000 - 4096


async def test_an_error_costs_one_datagram(
    flaky: tuple[Flaky, UdpSocket], receiver: socket.socket
) -> None:
    sock, sender = flaky
    sock.failures = [None, OSError(errno.EPERM, "filtered")]
    sender.send(datagrams(receiver, b"1", b"22", b"333"))
    assert received(receiver) == [b"1", b"333"]
    assert sender.dropped == 1


async def test_reading_in_batches(receiver: socket.socket) -> None:
    reader = UdpSocket(receiver, asyncio.get_running_loop())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(100):
            sender.sendto(b"%d" % number, receiver.getsockname())
        address = ("127.0.0.1", sender.getsockname()[1])
    batches = [reader.receive(), reader.receive(), reader.receive()]
    assert [len(batch) for batch in batches] == [64, 36, 0]
    assert [data for batch in batches for data, _, _ in batch] == [b"%d" % n for n in range(100)]
    assert {sender for batch in batches for _, sender, _ in batch} == {address}


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
async def test_when_a_datagram_came(host: str) -> None:
    """Not when it was read."""
    with (
        udp.bind(host, 0, **BUFFERS) as sock,
        socket.socket(sock.family, socket.SOCK_DGRAM) as peer,
    ):
        reader = UdpSocket(sock, asyncio.get_running_loop())
        assert reader.receive() == []
        peer.connect((host, sock.getsockname()[1]))
        until_stamped(reader, peer)
        sent = []
        for number in range(3):
            begin = time.monotonic()
            peer.send(b"%d" % number)
            sent.append((begin, time.monotonic()))
        spin_until(sent[-1][1] + 0.02)
        came = [when for _, _, when in reader.receive()]
        # The two clocks are read one after the other; somebody may come between.
        for when, (begin, end) in zip(came, sent, strict=True):
            assert begin - 0.005 < when < end + 0.005


def until_stamped(reader: UdpSocket, peer: socket.socket) -> None:
    """The kernel begins to note times a little after the first socket wants them
    (``net_enable_timestamp`` leaves it to a work queue), and says until then when one is read."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        peer.send(b"?")
        sent = time.monotonic()
        spin_until(sent + 0.01)
        [(_, _, when)] = reader.receive()
        if when < sent + 0.005:
            return
    raise AssertionError("the kernel notes no times")


def spin_until(when: float) -> None:
    while time.monotonic() < when:
        pass


@pytest.mark.parametrize("shift", [-3600.0, 3600.0])
async def test_the_clock_may_be_set(receiver: socket.socket, shift: float) -> None:
    """After the datagram came and before it is read: then they are further apart."""
    reader = UdpSocket(receiver, asyncio.get_running_loop())
    assert reader.receive() == []
    begin = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"?", receiver.getsockname())
    assert len(reader.receive()) == 1
    batch, now = reader._batch, time.monotonic()
    date = LIBRARY.datagrams_date
    date.argtypes = [ctypes.POINTER(Batch), ctypes.c_uint64, *[ctypes.c_double] * 3]
    date.restype = None
    date(batch._batch, 1, now, now - time.time() + shift, begin)
    assert batch._times[0] == (begin if shift < 0 else now)


@pytest.mark.parametrize(("host", "family"), [("", 10), ("::", 10), ("0.0.0.0", 2), ("::1", 10)])
def test_binding(host: str, family: int) -> None:
    with udp.bind(host, 0, **BUFFERS) as sock:
        assert sock.family == family
        dual = host in ("", "::")
        if family == socket.AF_INET6:
            only = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            assert only == (0 if dual else 1)
