/* UDP in C as the textbooks have it ("The Linux Programming Interface", listing 59-3; "UNIX Network
   Programming", section 8.4): one loop that ends on an error. The buffer holds every datagram. */
#include <arpa/inet.h>
#include <ctype.h>
#include <err.h>
#include <stdlib.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    static char buf[65535];
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    addr.sin_port = htons(argc > 1 ? atoi(argv[1]) : 0);
    if (fd == -1 || bind(fd, (struct sockaddr *)&addr, sizeof addr) == -1)
        err(1, "bind");
    for (;;) {
        socklen_t len = sizeof addr;
        ssize_t n = recvfrom(fd, buf, sizeof buf, 0, (struct sockaddr *)&addr, &len);
        if (n == -1)
            err(1, "recvfrom");
        for (ssize_t i = 0; i < n; i++)
            buf[i] = toupper((unsigned char)buf[i]);
        if (sendto(fd, buf, n, 0, (struct sockaddr *)&addr, len) != n)
            err(1, "sendto");
    }
}
