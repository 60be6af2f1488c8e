/* The load: clients on loopback, in one thread per core that takes the replies as they arrive.

   load udp|tcp PORT stay|close SIZE CLIENTS ACTIVE WINDOW RATE LATE SECONDS

   It is C because std has no call that waits for many sockets. With `stay`, CLIENTS sockets are
   opened, each of which makes an exchange before the next is opened, and ACTIVE of them send requests
   of SIZE bytes. With `close`, each of ACTIVE clients opens a connection for every request. If RATE is
   0, each client keeps WINDOW requests in flight (a closed loop), and sends at least those. Otherwise
   they send RATE requests per second in all, at times that do not depend on the replies (an open
   loop), and a request waits from the time at which it had to be sent.

   It warms up and waits for a line. Then it runs for SECONDS. Both times it prints the number of
   replies, of requests without a reply, and of replies that took longer than LATE seconds; the time;
   and the 50th, 99th and 99.9th percentile of the wait; all in seconds. A wrong reply is an error. It
   exits when its standard input ends. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WINDOW = 8, DIGITS = 8, MAX_REPLIES = 1 << 24 };

struct client {
    int fd, filled;             /* how much of the next reply has been received */
    uint32_t first, sent, done; /* numbers of the first request, the next request, the next reply */
    uint64_t times[MAX_WINDOW]; /* when the last requests were sent */
    uint64_t due, last;         /* when to send the next in an open loop; when a reply arrived */
    char *reply;
};

static int udp, closes, size, clients, active, window, cores;
static double rate;
static struct sockaddr_in server = {.sin_family = AF_INET};
static struct client *all;
static uint64_t start, end;
static atomic_size_t replies;
static float waits[MAX_REPLIES]; /* in seconds */

static _Thread_local int epoll;
static _Thread_local uint32_t in_flight;
static _Thread_local char *request, *expected;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * UINT64_C(1000000000) + time.tv_nsec;
}

/* When a client has to send a request in an open loop: once in each period, at a random time. */
static uint64_t intended(struct client *client, uint32_t number) {
    uint64_t random = ((client - all) << 32 | number) * UINT64_C(0x9e3779b97f4a7c15);
    random = (random ^ random >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    random = (random ^ random >> 27) * UINT64_C(0x94d049bb133111eb);
    return start + (number - client->first + (random >> 11) * 0x1p-53) * 1e9 * active / rate;
}

/* Writes the number of a request over its beginning, if that is long enough. */
static void stamp(char *bytes, uint32_t number) {
    for (int i = 0; i < DIGITS && size >= DIGITS; i++)
        bytes[i] = '0' + (number >> 4 * i & 15);
}

static void watch(struct client *client, int call, int events) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(epoll, call, client->fd, &event) == -1)
        err(1, "epoll_ctl");
}

static int open_socket(int flags) {
    int on = 1, fd = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | flags, 0);
    if (fd == -1)
        err(1, "socket");
    if (connect(fd, (struct sockaddr *)&server, sizeof server) == -1 && errno != EINPROGRESS)
        err(1, "connect");
    if (!udp)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void send_request(struct client *client) {
    client->times[client->sent % MAX_WINDOW] = now();
    stamp(request, client->sent++);
    in_flight++;
    if (closes) {
        client->fd = open_socket(SOCK_NONBLOCK);
        watch(client, EPOLL_CTL_ADD, EPOLLOUT);
    } else {
        /* A request that cannot be sent gets no reply, and is counted as lost. */
        send(client->fd, request, size, MSG_NOSIGNAL);
    }
}

/* Counts a reply; in a closed loop, the client then sends its next request. */
static void check(struct client *client, int length) {
    uint64_t time = now();
    uint32_t number = client->done++;
    if (udp) /* Replies to datagrams may arrive in another order. */
        for (int i = number = 0; i < DIGITS; i++)
            number |= (uint32_t)(client->reply[i] - '0' & 15) << 4 * i;
    stamp(expected, number);
    if (length != size || memcmp(client->reply, expected, size) != 0 ||
        number - client->first >= client->sent - client->first)
        errx(1, "a wrong reply");
    uint64_t sent = rate ? intended(client, number) : client->times[number % MAX_WINDOW];
    size_t index = replies++;
    if (index >= MAX_REPLIES)
        errx(1, "too many replies");
    waits[index] = (time - sent) / 1e9;
    in_flight--;
    client->last = time;
    client->filled = 0;
    if (!rate && time < end)
        send_request(client);
}

static void ready(struct client *client, int events) {
    if (events & EPOLLOUT) { /* The connection is open, or has failed. */
        send(client->fd, request, size, MSG_NOSIGNAL);
        watch(client, EPOLL_CTL_MOD, EPOLLIN);
        return;
    }
    /* One byte more, to notice a datagram that is too long. */
    int room = size + udp - client->filled;
    int length = recv(client->fd, client->reply + client->filled, room, MSG_DONTWAIT);
    int failed = !udp && (length == 0 || length == -1 && errno != EAGAIN);
    client->filled += length > 0 ? length : 0;
    if (failed || closes && client->filled == size)
        close(client->fd);
    if (length >= 0 && udp || client->filled == size) {
        check(client, client->filled);
    } else if (failed) {
        in_flight -= client->sent - client->done;
        client->done = client->sent, client->filled = 0;
        client->due = UINT64_MAX;
    }
}

static void *work(void *arg) {
    int number = (intptr_t)arg;
    char requested[size], replied[size];
    struct epoll_event events[16];
    uint64_t time, limit = end + (udp ? 1 : 20) * UINT64_C(1000000000);
    prctl(PR_SET_TIMERSLACK, 1); /* Otherwise Linux wakes a thread up to 50 µs late. */
    epoll = epoll_create1(0);
    request = requested, expected = replied;
    for (int i = 0; i < size; i++) { /* letters among other bytes */
        request[i] = size < DIGITS ? 'a' + i : i % 2 ? i / 2 : 'a' + i / 2 % 26;
        expected[i] = toupper(request[i]);
    }
    for (int i = number; i < active; i += cores) {
        struct client *client = &all[i];
        client->first = client->sent;
        client->due = rate ? intended(client, client->sent) : UINT64_MAX;
        if (!closes)
            watch(client, EPOLL_CTL_ADD, EPOLLIN);
        for (int sent = 0; !rate && sent < window; sent++) {
            if (closes) /* Clients on other machines would not keep the server from the processor. */
                sched_yield();
            send_request(client);
        }
    }
    while ((time = now()) < limit) {
        uint64_t next = UINT64_MAX;
        for (int i = number; rate && i < active; i += cores) {
            struct client *client = &all[i];
            for (; client->due <= time && client->due < end;
                 client->due = intended(client, client->sent))
                send_request(client);
            next = client->due < end && client->due < next ? client->due : next;
        }
        if (next == UINT64_MAX && !in_flight)
            break;
        uint64_t wait = (next < limit ? next : limit) - time;
        struct timespec timeout = {wait / 1000000000, wait % 1000000000};
        int count = epoll_pwait2(epoll, events, 16, &timeout, NULL);
        for (int i = 0; i < count; i++)
            ready(events[i].data.ptr, events[i].events);
    }
    close(epoll);
    return NULL;
}

static int compare(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

/* Returns a percentile in seconds; requests without a reply wait for an infinite time. */
static double percentile(double sent, double percent) {
    size_t index = sent * percent / 100;
    return index < replies ? waits[index] : 1.0 / 0.0;
}

/* Runs the load, and prints its figures. */
static void run(double seconds, double late_after) {
    pthread_t threads[cores];
    double sent = 0, late = 0;
    replies = 0;
    start = now(), end = start + seconds * 1e9;
    for (intptr_t i = 0; i < cores; i++)
        if ((errno = pthread_create(&threads[i], NULL, work, (void *)i)) != 0)
            err(1, "pthread_create");
    for (int i = 0; i < cores; i++)
        pthread_join(threads[i], NULL);
    uint64_t last = end;
    for (int i = 0; i < active; i++) {
        sent += all[i].sent - all[i].first;
        last = all[i].last > last ? all[i].last : last;
    }
    for (size_t i = 0; i < replies; i++)
        late += waits[i] > late_after;
    qsort(waits, replies, sizeof *waits, compare);
    printf("%zu,%.0f,%.0f,%.9f,%.9f,%.9f,%.9f\n", replies, sent - replies, late,
           (last - start) / 1e9, percentile(sent, 50), percentile(sent, 99), percentile(sent, 99.9));
}

int main(int argc, char **argv) {
    if (argc != 11)
        return 2;
    udp = strcmp(argv[1], "udp") == 0;
    server.sin_port = htons(atoi(argv[2]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    closes = strcmp(argv[3], "close") == 0;
    size = atoi(argv[4]), clients = atoi(argv[5]), active = atoi(argv[6]), window = atoi(argv[7]);
    double late_after = atof(argv[9]), seconds = atof(argv[10]);
    rate = atof(argv[8]);
    cores = sysconf(_SC_NPROCESSORS_ONLN);
    all = calloc(clients, sizeof *all);
    char *buffers = calloc(clients, size + 1);
    if (!all || !buffers)
        err(1, "calloc");
    setlinebuf(stdout);
    alarm(60);
    for (int i = 0; i < clients; i++) {
        char hello[5];
        all[i].reply = buffers + i * (size + 1);
        if (closes)
            continue;
        all[i].fd = open_socket(0);
        if (send(all[i].fd, "hello", 5, MSG_NOSIGNAL) != 5 ||
            recv(all[i].fd, hello, 5, MSG_WAITALL) != 5)
            err(1, "the first exchange");
    }
    if (seconds > 0)
        run(seconds / 5, late_after);
    else
        puts("not warmed up");
    getchar();
    run(seconds, late_after);
    while (getchar() != EOF)
        ;
    return 0;
}
