"""Servers and clients on Python's socket and socketserver: peers.py NAME HOST:PORT [MESSAGE...].

A client without messages sends standard input as one message; it prints one reply per line.
"""

import os
import socket
import socketserver
import sys
import threading

name, address, *arguments = sys.argv[1:]
host, port = address.split(":")
address = (host, int(port))
messages = [os.fsencode(argument) for argument in arguments]


def serve(server, loop):
    print("listening on %s:%d" % server.getsockname(), flush=True)
    loop()


def udp_basic_server():
    """Prints the bytes of each datagram in hexadecimal."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(address)

    def loop():
        while True:
            data, client = server.recvfrom(65535)
            print(data.hex(), "from %s:%d" % client, flush=True)

    serve(server, loop)


def udp_echo_server():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(address)

    def loop():
        while True:
            data, client = server.recvfrom(65535)
            server.sendto(data.upper(), client)

    serve(server, loop)


class DatagramHandler(socketserver.BaseRequestHandler):
    def handle(self):
        data, server = self.request
        server.sendto(data.upper(), self.client_address)


class StreamHandler(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data.upper())


def udp_threaded_server():
    socketserver.ThreadingUDPServer.max_packet_size = 65535  # 8192 by default
    server = socketserver.ThreadingUDPServer(address, DatagramHandler)
    serve(server.socket, server.serve_forever)


def tcp_threaded_server():
    socketserver.ThreadingTCPServer.daemon_threads = True
    server = socketserver.ThreadingTCPServer(address, StreamHandler)
    serve(server.socket, server.serve_forever)


def send_datagram(message, replies=True):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(30)
    client.sendto(message, address)
    if replies:
        sys.stdout.buffer.write(client.recvfrom(65535)[0] + b"\n")


def udp_basic_client():
    for message in messages or [sys.stdin.buffer.read()]:
        send_datagram(message, replies=False)


def udp_echo_client():
    for message in messages or [sys.stdin.buffer.read()]:
        send_datagram(message)


def udp_threaded_client():
    for message in messages or [sys.stdin.buffer.read()]:
        threading.Thread(target=send_datagram, args=[message]).start()


def tcp_threaded_client():
    """Sends messages, or else standard input, and half-closes the connection after the latter."""
    connection = socket.create_connection(address, timeout=30)
    for message in messages:
        connection.sendall(message)
        response = b""
        while len(response) < len(message):
            data = connection.recv(65536)
            if not data:
                sys.exit("the connection was closed")
            response += data
        sys.stdout.buffer.write(response + b"\n")

    def send_stdin():
        connection.sendall(sys.stdin.buffer.read())
        connection.shutdown(socket.SHUT_WR)

    if not messages:
        threading.Thread(target=send_stdin).start()
        while data := connection.recv(65536):
            sys.stdout.buffer.write(data)


globals()[name]()
