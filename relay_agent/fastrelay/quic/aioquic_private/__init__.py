"""aioquic's private parts: this package alone touches them.

aioquic 1.7.2 has no public way to ask how much was queued but never sent, what the path
looks like, which certificate the peer showed, or to open a stream without writing to it;
and its loops visit every open stream for every packet. What is done about that is here,
behind :class:`Engine`:

``streams``    the sending half of a stream, without copies and without empty sets
``scheduling`` which streams have something to send
``sending``    1-RTT packets built from the streams that have something to send, only
``partial_resets`` RESET_STREAM_AT, received
``receiving``  1-RTT packets taken apart without the generic dispatch
``sharing``    numbers that may come from a lease (:mod:`fastrelay.quic.lease`)
``keys``       1-RTT keys while somebody else seals packets too
``congestion`` our controllers (:mod:`fastrelay.quic.congestion`) as aioquic's
``recovery``   acknowledgements, losses and the window over both senders
``acknowledging`` packets that hold nothing but an acknowledgement
``adopted``, ``adopting``  streams that the kernel began
``quiet``      nothing to send but an acknowledgement
``probing``    how large a packet the path carries
``lending``    what the kernel is told, and when it has to wait
``protection`` packets sealed and opened
``plaintext``  packets that are neither, for the laboratory
``engine``     the interface for the rest of the project
``packets``    packets outside of any connection

Connection set-up, rare frames and recovery stay aioquic's.
``tests/contract`` holds what is relied upon, so that an upgrade of aioquic fails there and
not in production.
"""

from fastrelay.quic.aioquic_private.congestion import registered
from fastrelay.quic.aioquic_private.engine import Engine
from fastrelay.quic.aioquic_private.lending import datagram_place
from fastrelay.quic.aioquic_private.packets import Http3, encode_refusal, parse_long_header

__all__ = [
    "Engine",
    "Http3",
    "datagram_place",
    "encode_refusal",
    "parse_long_header",
    "registered",
]
