/* The load: clients on loopback, in one thread per core that takes the replies as they arrive.

   load udp|tcp PORT stay|close SIZE CLIENTS ACTIVE WINDOW RATE LATE SECONDS

   It is C because std has no call that waits for many sockets. With `stay`, CLIENTS sockets are
   opened, each of which makes an exchange before the next is opened, and ACTIVE of them send requests
   of SIZE bytes. With `close`, each of ACTIVE clients opens a connection for every request. If RATE is
   0, each client keeps WINDOW requests in flight (a closed loop), and sends at least those. Otherwise
   they send RATE requests per second in all, at times that do not depend on the replies (an open
   loop), and a request waits from the time at which it had to be sent.

   It warms up and waits for a line. Then it runs for SECONDS. Both times it prints the number of
   replies, of wrong ones, of requests without a reply, and of replies that took longer than LATE
   seconds; the time and its own CPU time; the 50th, 99th and 99.9th percentile of the wait, and the
   99th of its own delay in sending; all in seconds. It exits when its standard input ends. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
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

enum { MAX_WINDOW = 8, DIGITS = 8, MAX_TIMES = 1 << 24 };

struct client {
    int fd, filled;             /* how much of the next reply has been received */
    uint32_t first, sent, done; /* numbers of the first request, the next request, the next reply */
    uint64_t times[MAX_WINDOW]; /* when the last requests were sent */
    char *reply;
};

struct thread {
    pthread_t id;
    int number, epoll;
    uint32_t in_flight;
    uint64_t last; /* when the last reply arrived */
    char *request, *expected;
};

static int udp, closes, size, clients, active, window, cores;
static double rate;
static struct sockaddr_in server = {.sin_family = AF_INET};
static struct client *all;
static uint64_t *due; /* in an open loop, when each client has to send its next request */
static uint64_t start, end;
static atomic_uint wrong;
static struct times {
    atomic_size_t length;
    uint32_t values[MAX_TIMES]; /* in nanoseconds */
} waits, delays;

static void fail(const char *call) {
    perror(call);
    exit(1);
}

static uint64_t read_clock(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * UINT64_C(1000000000) + time.tv_nsec;
}

#define now() read_clock(CLOCK_MONOTONIC)

static void push(struct times *times, uint64_t value) {
    size_t index = times->length++;
    if (index >= MAX_TIMES)
        exit(1);
    times->values[index] = value < UINT32_MAX ? value : UINT32_MAX;
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

static void watch(struct thread *thread, struct client *client, int call, int events) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(thread->epoll, call, client->fd, &event) == -1)
        fail("epoll_ctl");
}

static int open_socket(int flags) {
    int on = 1, fd = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | flags, 0);
    if (fd == -1)
        fail("socket");
    if (connect(fd, (struct sockaddr *)&server, sizeof server) == -1 && errno != EINPROGRESS)
        fail("connect");
    if (!udp)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void send_request(struct thread *thread, struct client *client) {
    client->times[client->sent % MAX_WINDOW] = now();
    stamp(thread->request, client->sent++);
    thread->in_flight++;
    if (closes) {
        client->fd = open_socket(SOCK_NONBLOCK);
        watch(thread, client, EPOLL_CTL_ADD, EPOLLOUT);
    } else {
        /* A request that cannot be sent gets no reply, and is counted as lost. */
        send(client->fd, thread->request, size, MSG_NOSIGNAL);
    }
}

/* Counts a reply; in a closed loop, the client then sends its next request. */
static void check(struct thread *thread, struct client *client, int length) {
    uint64_t time = now();
    uint32_t number = client->done++;
    if (udp) /* Replies to datagrams may arrive in another order. */
        for (int i = number = 0; i < DIGITS; i++)
            number |= (uint32_t)(client->reply[i] - '0' & 15) << 4 * i;
    stamp(thread->expected, number);
    if (length != size || memcmp(client->reply, thread->expected, size) != 0 ||
        number - client->first >= client->sent - client->first)
        wrong++;
    else
        push(&waits, time - (rate ? intended(client, number) : client->times[number % MAX_WINDOW]));
    thread->in_flight--;
    thread->last = time;
    client->filled = 0;
    if (!rate && time < end)
        send_request(thread, client);
}

static void ready(struct thread *thread, struct client *client, int events) {
    if (events & EPOLLOUT) { /* The connection is open, or has failed. */
        send(client->fd, thread->request, size, MSG_NOSIGNAL);
        watch(thread, client, EPOLL_CTL_MOD, EPOLLIN);
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
        check(thread, client, client->filled);
    } else if (failed) {
        thread->in_flight -= client->sent - client->done;
        client->done = client->sent, client->filled = 0;
        due[client - all] = UINT64_MAX;
    }
}

static void *work(void *arg) {
    struct thread *thread = arg;
    char request[size], expected[size];
    struct epoll_event events[16];
    uint64_t time, limit = end + (udp ? 1 : 20) * UINT64_C(1000000000);
    prctl(PR_SET_TIMERSLACK, 1); /* Otherwise Linux wakes a thread up to 50 µs late. */
    thread->epoll = epoll_create1(0);
    for (int i = 0; i < size; i++) { /* letters among other bytes */
        request[i] = size < DIGITS ? 'a' + i : i % 2 ? i / 2 : 'a' + i / 2 % 26;
        expected[i] = toupper(request[i]);
    }
    thread->request = request, thread->expected = expected;
    for (int i = thread->number; i < active; i += cores) {
        struct client *client = &all[i];
        client->first = client->sent;
        due[i] = rate ? intended(client, client->sent) : UINT64_MAX;
        if (!closes)
            watch(thread, client, EPOLL_CTL_ADD, EPOLLIN);
        for (int sent = 0; !rate && sent < window; sent++) {
            if (closes) /* Clients on other machines would not keep the server from the processor. */
                sched_yield();
            send_request(thread, client);
        }
    }
    while ((time = now()) < limit) {
        uint64_t next = UINT64_MAX;
        for (int i = thread->number; rate && i < active; i += cores) {
            for (; due[i] <= time && due[i] < end; due[i] = intended(&all[i], all[i].sent)) {
                push(&delays, now() - due[i]);
                send_request(thread, &all[i]);
            }
            next = due[i] < end && due[i] < next ? due[i] : next;
        }
        if (next == UINT64_MAX && !thread->in_flight)
            break;
        uint64_t wait = (next < limit ? next : limit) - time;
        struct timespec timeout = {wait / 1000000000, wait % 1000000000};
        int count = epoll_pwait2(thread->epoll, events, 16, &timeout, NULL);
        for (int i = 0; i < count; i++)
            ready(thread, events[i].data.ptr, events[i].events);
    }
    close(thread->epoll);
    return NULL;
}

static int compare(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

/* Returns a percentile in seconds; requests without a reply wait for an infinite time. */
static double percentile(struct times *times, double sent, double percent) {
    size_t index = sent * percent / 100;
    return index < times->length ? times->values[index] / 1e9 : sent ? 1.0 / 0.0 : 0.0;
}

/* Runs the load, and prints its figures. */
static void run(double seconds, double late_after) {
    struct thread threads[cores];
    double sent = 0, late = 0, time = seconds;
    uint64_t before = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    wrong = waits.length = delays.length = 0;
    start = now(), end = start + seconds * 1e9;
    for (int i = 0; i < cores; i++) {
        threads[i] = (struct thread){.number = i};
        if (pthread_create(&threads[i].id, NULL, work, &threads[i]) != 0)
            fail("pthread_create");
    }
    for (int i = 0; i < cores; i++) {
        pthread_join(threads[i].id, NULL);
        if (threads[i].last > start + time * 1e9)
            time = (threads[i].last - start) / 1e9;
    }
    double used = (read_clock(CLOCK_PROCESS_CPUTIME_ID) - before) / 1e9;
    for (int i = 0; i < active; i++)
        sent += all[i].sent - all[i].first;
    for (size_t i = 0; i < waits.length; i++)
        late += waits.values[i] > late_after * 1e9;
    qsort(waits.values, waits.length, sizeof *waits.values, compare);
    qsort(delays.values, delays.length, sizeof *delays.values, compare);
    printf("%zu %u %.0f %.0f %.9f %.6f %.9f %.9f %.9f %.9f\n", waits.length, wrong,
           sent - waits.length - wrong, late, time, used, percentile(&waits, sent, 50),
           percentile(&waits, sent, 99), percentile(&waits, sent, 99.9),
           percentile(&delays, delays.length, 99));
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
    due = calloc(clients, sizeof *due);
    char *replies = calloc(clients, size + 1);
    if (!all || !due || !replies)
        fail("calloc");
    setlinebuf(stdout);
    alarm(60);
    for (int i = 0; i < clients; i++) {
        char hello[5];
        all[i].reply = replies + i * (size + 1);
        if (closes)
            continue;
        all[i].fd = open_socket(0);
        if (send(all[i].fd, "hello", 5, MSG_NOSIGNAL) != 5 ||
            recv(all[i].fd, hello, 5, MSG_WAITALL) != 5)
            fail("the first exchange");
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
