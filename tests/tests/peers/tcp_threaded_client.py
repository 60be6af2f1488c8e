"""Sends each argument over one connection and prints its answer; without one, pipes standard input
through, and closes its half of the connection at the end of it."""

import os
import socket
import sys
import threading

host, port = sys.argv[1].split(":")
messages = [os.fsencode(message) for message in sys.argv[2:]]
connection = socket.create_connection((host, int(port)), timeout=30)

for message in messages:
    connection.sendall(message)
    answer = b""
    while len(answer) < len(message):
        data = connection.recv(65536)
        if not data:
            sys.exit("the connection was closed")
        answer += data
    sys.stdout.buffer.write(answer + b"\n")


def send():
    connection.sendall(sys.stdin.buffer.read())
    connection.shutdown(socket.SHUT_WR)


if not messages:
    threading.Thread(target=send).start()
    while data := connection.recv(65536):
        sys.stdout.buffer.write(data)
