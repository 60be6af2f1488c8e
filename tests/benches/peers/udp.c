/* The floor for UDP: receive and send, on one thread. With -DUPPER: and upper-case what came. */
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>

#include "upper.h"

int main(void) {
    static char buffer[65535];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0) {
        perror("udp");
        return 1;
    }
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        size = sizeof address;
        ssize_t length =
            recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&address, &size);
        if (length < 0)
            continue;
        upper(buffer, length);
        sendto(fd, buffer, length, 0, (struct sockaddr *)&address, size);
    }
}
