"""Like udp_echo_client.py, all at once: a thread and a socket for each message."""

import os
import socket
import sys
import threading

host, port = sys.argv[1].split(":")
messages = [os.fsencode(message) for message in sys.argv[2:]] or [sys.stdin.buffer.read()]


def ask(message):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(30)
    client.sendto(message, (host, int(port)))
    answer, server = client.recvfrom(65535)
    sys.stdout.buffer.write(answer + b"\n")


threads = [threading.Thread(target=ask, args=[message]) for message in messages]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
