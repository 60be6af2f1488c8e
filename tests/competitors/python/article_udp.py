"""The loop of most introductions to UDP in Python, and of the article that this project started
from: recvfrom with a buffer of 1,024 bytes, and sendto."""

import socket
import sys

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", int(sys.argv[1])))
while True:
    data, client = server.recvfrom(1024)
    server.sendto(data.upper(), client)
