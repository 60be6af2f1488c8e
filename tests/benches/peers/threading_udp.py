"""socketserver.ThreadingUDPServer. [DELAY]: seconds of work."""

import socketserver
import sys
import time

delay = float(sys.argv[1]) if len(sys.argv) > 1 else 0


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        if delay:
            time.sleep(delay)
        sock.sendto(data.upper(), self.client_address)


class Server(socketserver.ThreadingUDPServer):
    max_packet_size = 65535
    daemon_threads = True  # it keeps no list of them


with Server(("127.0.0.1", 0), Handler) as server:
    print("listening on %s:%d" % server.server_address, flush=True)
    server.serve_forever()
