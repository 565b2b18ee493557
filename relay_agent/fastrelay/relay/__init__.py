"""The relay: a core without I/O, and the process around it.

The core (:mod:`~fastrelay.relay.core` and what it imports) turns events of sessions into calls
on sessions. The shell (:mod:`~fastrelay.relay.server` and what only it imports) owns sockets,
time, signals, files, logs and the pages that show it all.
"""
