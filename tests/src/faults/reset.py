# Opens connections, sends some bytes over every other one, and resets them. Arguments: the address,
# its port, the number of connections, the seconds before the reset, and the bytes in hexadecimal
# digits.
import struct, sys, time
from socket import *
address, port, count, delay, data = sys.argv[1:]
for number in range(int(count)):
    client = create_connection((address, int(port)), 1)
    if number % 2:
        client.sendall(bytes.fromhex(data))
    time.sleep(float(delay))
    client.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack('ii', 1, 0))
    client.close()
