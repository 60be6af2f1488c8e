/* TCP in C as the textbooks have it: a thread per connection ("UNIX Network Programming", section
   26.4), and an accept loop that prints an error and goes on (server.c of "Beej's Guide to Network
   Programming"). For the benchmark, TCP_NODELAY is set, and the buffer has 64 KiB or, in bytes, the
   second argument. */
#include <arpa/inet.h>
#include <ctype.h>
#include <err.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static size_t size = 65536;

static void *serve(void *arg) {
    int fd = (int)(intptr_t)arg, on = 1;
    char buf[size];
    ssize_t n;
    pthread_detach(pthread_self());
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    while ((n = read(fd, buf, sizeof buf)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            buf[i] = toupper((unsigned char)buf[i]);
        if (write(fd, buf, n) != n)
            break;
    }
    close(fd);
    return NULL;
}

int main(int argc, char **argv) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    addr.sin_port = htons(argc > 1 ? atoi(argv[1]) : 0);
    if (argc > 2)
        size = atoi(argv[2]);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listener == -1 || bind(listener, (struct sockaddr *)&addr, sizeof addr) == -1 ||
        listen(listener, SOMAXCONN) == -1)
        err(1, "listen");
    for (;;) {
        pthread_t thread;
        int fd = accept(listener, NULL, NULL);
        if (fd == -1) {
            warn("accept");
            continue;
        }
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) != 0) {
            warnx("cannot create a thread");
            close(fd);
        }
    }
}
