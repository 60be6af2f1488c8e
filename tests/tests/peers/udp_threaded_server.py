"""Answers each datagram with its bytes in upper case, each on a thread of its own."""

import socketserver
import sys


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        data, server = self.request
        server.sendto(data.upper(), self.client_address)


class Server(socketserver.ThreadingUDPServer):
    max_packet_size = 65535  # 8192 by default: the tail of a longer datagram is lost


host, port = sys.argv[1].split(":")
with Server((host, int(port)), Handler) as server:
    print("listening on %s:%d" % server.server_address, flush=True)
    server.serve_forever()
