"""Python's own concurrent TCP server, a thread per connection: the examples on the page of
socketserver in Python's documentation, with ThreadingTCPServer and a loop over the connection.
For the benchmark, TCP_NODELAY is set, the buffer has 64 KiB or the second argument, and the third is
the length of the backlog, which is 5 without it."""

import socketserver
import sys

SIZE = int(sys.argv[2]) if len(sys.argv) > 2 else 65536


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        while data := self.request.recv(SIZE):
            self.request.sendall(data.upper())


if len(sys.argv) > 3:
    socketserver.ThreadingTCPServer.request_queue_size = int(sys.argv[3])
with socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    server.serve_forever()
