"""Python's own concurrent UDP server, a thread per datagram: the examples on the page of
socketserver in Python's documentation, with ThreadingUDPServer, whose buffer has 8,192 bytes."""

import socketserver
import sys


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(data.upper(), self.client_address)


with socketserver.ThreadingUDPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    server.serve_forever()
