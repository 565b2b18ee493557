"""``server ADDRESS`` answers every datagram; ``client ADDRESS COUNT`` prints round trips in ms."""

import socket
import sys
import time

PORT = 7000
family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sock:
    if sys.argv[1] == "server":
        sock.bind((sys.argv[2], PORT))
        print("bound", flush=True)
        while True:
            data, peer = sock.recvfrom(2048)
            sock.sendto(data, peer)
    sock.settimeout(0.1)
    for _ in range(int(sys.argv[3])):
        begin = time.monotonic()
        sock.sendto(bytes(1000), (sys.argv[2], PORT))
        try:
            sock.recv(2048)
        except TimeoutError:
            continue
        print((time.monotonic() - begin) * 1e3, flush=True)
