"""Sends each argument as a datagram, or else standard input as one, and prints the answers."""

import os
import socket
import sys

host, port = sys.argv[1].split(":")
messages = [os.fsencode(message) for message in sys.argv[2:]] or [sys.stdin.buffer.read()]
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(30)
for message in messages:
    client.sendto(message, (host, int(port)))
    answer, server = client.recvfrom(65535)
    sys.stdout.buffer.write(answer + b"\n")
