"""Media over QUIC Transport: codec and sessions, sans-I/O.

Nothing here touches a socket, a clock or another package of the project. Bytes
come in through :class:`~fastrelay.moqt.session.Session`, events come out, and
what the session wants to send goes to a :class:`~fastrelay.moqt.transport.Transport`.
"""
