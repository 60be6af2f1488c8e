"""Python's own concurrent TCP server, a thread per connection: the examples on the page of
socketserver in Python's documentation, with ThreadingTCPServer and a loop over the connection.
For the benchmark, the buffer has 64 KiB, TCP_NODELAY is set, and a second argument is the length of
the backlog, which is 5 without it."""

import socketserver
import sys


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data.upper())


if len(sys.argv) > 2:
    socketserver.ThreadingTCPServer.request_queue_size = int(sys.argv[2])
with socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    server.serve_forever()
