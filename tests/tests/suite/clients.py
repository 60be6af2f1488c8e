"""Clients on Python's socket module: clients.py NAME HOST:PORT [MESSAGE...].

Without messages, standard input is the only one. Each reply is printed on a line of its own.
"""

import os
import socket
import sys
import threading

name, address, *arguments = sys.argv[1:]
host, port = address.split(":")
address = (host, int(port))
messages = [os.fsencode(argument) for argument in arguments]


def send_datagram(message, replies=True):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(30)
    client.sendto(message, address)
    if replies:
        sys.stdout.buffer.write(client.recvfrom(65535)[0] + b"\n")


def udp_basic():
    for message in messages or [sys.stdin.buffer.read()]:
        send_datagram(message, replies=False)


def udp_echo():
    for message in messages or [sys.stdin.buffer.read()]:
        send_datagram(message)


def udp_threaded():
    for message in messages or [sys.stdin.buffer.read()]:
        threading.Thread(target=send_datagram, args=[message]).start()


def tcp_threaded():
    """Half-closes the connection after standard input."""
    connection = socket.create_connection(address, timeout=30)
    for message in messages:
        connection.sendall(message)
        response = b""
        while len(response) < len(message):
            response += connection.recv(65536) or sys.exit("the connection was closed")
        sys.stdout.buffer.write(response + b"\n")

    def send_stdin():
        connection.sendall(sys.stdin.buffer.read())
        connection.shutdown(socket.SHUT_WR)

    if not messages:
        threading.Thread(target=send_stdin).start()
        while data := connection.recv(65536):
            sys.stdout.buffer.write(data)


globals()[name]()
