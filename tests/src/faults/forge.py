# Forges datagrams, and counts those with the same ports that arrive, its own included. Arguments:
# the address of both ends, their ports, how many to send, for how many seconds to count, and the
# payload in hexadecimal digits.
from socket import *
import select, struct, sys, time
address, source_port, port, copies, seconds, payload = sys.argv[1:]
payload = bytes.fromhex(payload)
raw = socket(AF_INET, SOCK_RAW, IPPROTO_UDP)
raw.bind((address, 0))
header = struct.pack('!HHHH', int(source_port), int(port), 8 + len(payload), 0)
for _ in range(int(copies)):
    raw.sendto(header + payload, (address, 0))
count, end = 0, time.monotonic() + float(seconds)
while (left := end - time.monotonic()) > 0:
    if select.select([raw], [], [], left)[0]:
        packet = raw.recv(65535)
        count += packet[4 * (packet[0] & 15):][:4] == header[:4]
print(count)
