"""socketserver.ThreadingTCPServer. "article": as it stands there, but for the end of a stream."""

import socket
import socketserver
import sys

article = sys.argv[1:] == ["article"]


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        if not article:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := self.request.recv(1024 if article else 65536):
            self.request.sendall(data.upper())


class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 5 if article else 4096
    daemon_threads = True  # it keeps no list of them

    def handle_error(self, request, client_address):
        pass  # the client has left


with Server(("127.0.0.1", 0), Handler) as server:
    print("listening on %s:%d" % server.server_address, flush=True)
    server.serve_forever()
