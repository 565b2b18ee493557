"""A connection that keeps nothing of an encryption level whose keys are discarded.

aioquic keeps the empty shells: a quarter of what the garbage collector finds of a connection.
All that it asks of them later is whether there are keys, and there are none.
"""

from __future__ import annotations

from typing import Any, NoReturn

from aioquic.quic.crypto import CryptoContext, CryptoPair
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

from fastrelay.quic.aioquic_private.plaintext import Plaintext


class _NoKeys(CryptoContext):
    """It is everybody's, so it never gets any."""

    def setup(self, **_: Any) -> NoReturn:
        raise AssertionError("The keys of this encryption level are discarded")


_NO_PAIR = CryptoPair()
_NO_PAIR.recv = _NO_PAIR.send = _NoKeys()
_NO_STREAM = QuicStream()


class Handshakes(Plaintext):
    """A connection whose levels are gone when they are discarded."""

    def _discard_epoch(self, epoch: Epoch) -> None:
        super()._discard_epoch(epoch)
        self._cryptos[epoch] = _NO_PAIR
        self._crypto_streams[epoch] = _NO_STREAM
        if epoch is Epoch.INITIAL:
            self._cryptos_initial = dict.fromkeys(self._cryptos_initial, _NO_PAIR)
        elif epoch is Epoch.HANDSHAKE:
            self._cryptos[Epoch.ZERO_RTT] = _NO_PAIR
