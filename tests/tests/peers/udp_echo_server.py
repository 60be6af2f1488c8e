"""Answers each datagram with its bytes in upper case, one after the other."""

import socket
import sys

host, port = sys.argv[1].split(":")
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((host, int(port)))
print("listening on %s:%d" % server.getsockname(), flush=True)
while True:
    data, client = server.recvfrom(65535)
    server.sendto(data.upper(), client)
