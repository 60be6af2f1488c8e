"""Answers what comes over each connection in upper case, each on a thread of its own."""

import socketserver
import sys


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data.upper())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


host, port = sys.argv[1].split(":")
with Server((host, int(port)), Handler) as server:
    print("listening on %s:%d" % server.server_address, flush=True)
    server.serve_forever()
