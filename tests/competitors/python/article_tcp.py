"""The handler of the article that this project started from, on socketserver.ThreadingTCPServer.
It does not check for the end of the stream, which recv reports as an empty result."""

import socketserver
import sys


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while True:
            data = self.request.recv(1024)
            self.request.send(data.upper())


server = socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.serve_forever()
