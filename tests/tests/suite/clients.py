"""Clients on Python's socket module: clients.py udp-basic|udp|tcp HOST:PORT.

They compare the replies with what Python's `upper` returns. `udp-basic` waits for none.
"""

import socket
import sys

kind, address = sys.argv[1:]
host, port = address.split(":")
every = bytes(range(256))
messages = [b"hello", b"world", b"sdfas", b"", every, (every * 256)[:65507]]

if kind == "tcp":
    connection = socket.create_connection((host, int(port)), timeout=30)
    responses = connection.makefile("rb")
    for message in messages:
        connection.sendall(message)
        assert responses.read(len(message)) == message.upper()
else:
    for message in messages:
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.settimeout(30)
        client.sendto(message, (host, int(port)))
        if kind == "udp":
            assert client.recv(65535) == message.upper()
