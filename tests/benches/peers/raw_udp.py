"""A loop on a plain socket. [BYTES]: how many to receive at most (the article: 1024)."""

import socket
import sys

size = int(sys.argv[1]) if len(sys.argv) > 1 else 65535
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("127.0.0.1", 0))
    print("listening on %s:%d" % sock.getsockname(), flush=True)
    while True:
        data, client = sock.recvfrom(size)
        sock.sendto(data.upper(), client)
