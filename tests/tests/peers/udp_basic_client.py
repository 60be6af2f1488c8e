"""Sends each argument as a datagram, or else standard input as one, and waits for nothing."""

import os
import socket
import sys

host, port = sys.argv[1].split(":")
messages = [os.fsencode(message) for message in sys.argv[2:]] or [sys.stdin.buffer.read()]
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for message in messages:
    client.sendto(message, (host, int(port)))
