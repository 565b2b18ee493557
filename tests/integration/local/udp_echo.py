"""``server ADDRESS`` answers every datagram; ``client ADDRESS COUNT`` prints round trips in ms."""

import socket
import sys
import time

PORT = 7000
PATIENCE = 30
"""Tenths of a second without an answer: no more will come."""
family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sock:
    if sys.argv[1] == "server":
        sock.bind((sys.argv[2], PORT))
        print("bound", flush=True)
        while True:
            data, peer = sock.recvfrom(2048)
            sock.sendto(data, peer)
    sock.settimeout(0.1)
    count, sent, answers, silent = int(sys.argv[3]), [], 0, 0
    while len(sent) < count or (answers < count and silent < PATIENCE):
        if len(sent) < count:
            sent.append(time.monotonic())
            sock.sendto(len(sent).to_bytes(2) + bytes(998), (sys.argv[2], PORT))
        try:
            number = int.from_bytes(sock.recv(2048)[:2])
        except TimeoutError:
            silent += 1
            continue
        answers, silent = answers + 1, 0
        print((time.monotonic() - sent[number - 1]) * 1e3, flush=True)
