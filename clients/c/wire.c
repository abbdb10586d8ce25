/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Takes pieces of text and descriptors, gives messages on the agent's socket and fields of its replies. See wire.h. */
#include "wire.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

void text_begin(struct text *t, char *memory, size_t room)
{
    *t = (struct text){.at = memory, .room = room};
}

static void add(struct text *t, const char *raw, size_t length)
{
    if (t->cut || length > t->room - t->length) {
        t->cut = 1;
        return;
    }
    memcpy(t->at + t->length, raw, length);
    t->length += length;
}

void text_add(struct text *t, const char *raw)
{
    add(t, raw, strlen(raw));
}

void text_number(struct text *t, uint64_t n)
{
    char digits[20];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + n % 10);
    while (n /= 10);
    add(t, digits + at, sizeof digits - at);
}

void text_string(struct text *t, const char *raw)
{
    static const char hex[] = "0123456789abcdef";
    add(t, "\"", 1);
    for (; *raw; raw++) {
        unsigned char c = (unsigned char)*raw;
        if (c == '"' || c == '\\') {
            add(t, "\\", 1);
            add(t, raw, 1);
        } else if (c < ' ') {
            char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            add(t, escape, sizeof escape);
        } else {
            add(t, raw, 1);
        }
    }
    add(t, "\"", 1);
}

void text_call(struct text *t, const char *method)
{
    text_add(t, "{\"method\":\"io.keepahead.Control.");
    text_add(t, method);
    text_add(t, "\",\"parameters\":");
}

void text_end(struct text *t, int oneway)
{
    text_add(t, oneway ? ",\"oneway\":true}" : "}");
    add(t, "", 1);
}

const char *wire_socket_path(void)
{
    const char *named = getenv("KEEPAHEAD_SOCKET");
    return named && *named ? named : "/run/keepahead/control.sock";
}

int wire_connect(const char *path, int timeout_ms)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof to.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(to.sun_path, path, length + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    /* Where the agent's queue is full, connect(2) waits; this bounds it. */
    struct timeval most = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

/* Waits until the socket can be read or written. */
static int ready(int fd, short what, int timeout_ms)
{
    struct pollfd one = {.fd = fd, .events = what};
    int found;
    do
        found = poll(&one, 1, timeout_ms);
    while (found < 0 && errno == EINTR);
    if (found == 0)
        errno = ETIMEDOUT;
    return found > 0 ? 0 : -1;
}

int wire_send(int fd, const char *bytes, size_t length, const int *fds, size_t count, int timeout_ms)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(WIRE_FDS * sizeof(int))];
    } rights;
    while (length > 0) {
        struct iovec part = {.iov_base = (void *)bytes, .iov_len = length};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        if (count > 0) {
            memset(&rights, 0, sizeof rights);
            message.msg_control = &rights;
            message.msg_controllen = CMSG_SPACE(count * sizeof(int));
            struct cmsghdr *header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(count * sizeof(int));
            memcpy(CMSG_DATA(header), fds, count * sizeof(int));
        }
        ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            bytes += sent;
            length -= (size_t)sent;
            count = 0;
        } else if (sent < 0 && errno == EAGAIN) {
            if (ready(fd, POLLOUT, timeout_ms) != 0)
                return -1;
        } else if (sent < 0 && errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

ptrdiff_t wire_receive(int fd, char *bytes, size_t room, int timeout_ms)
{
    for (;;) {
        ssize_t got = recv(fd, bytes, room, MSG_DONTWAIT);
        if (got >= 0 || (errno != EAGAIN && errno != EINTR))
            return got;
        if (errno == EAGAIN && ready(fd, POLLIN, timeout_ms) != 0)
            return -1;
    }
}

/* Behind the JSON string that begins at `at`. */
static const char *behind_string(const char *at)
{
    for (at++; *at && *at != '"'; at++)
        if (*at == '\\' && at[1])
            at++;
    return *at ? at + 1 : at;
}

const char *json_field(const char *json, const char *name)
{
    size_t length = strlen(name);
    while (*json) {
        if (*json != '"') {
            json++;
            continue;
        }
        const char *end = behind_string(json), *colon = end;
        while (*colon == ' ')
            colon++;
        int named = (size_t)(end - json) == length + 2 && memcmp(json + 1, name, length) == 0;
        if (*colon == ':' && named) {
            for (colon++; *colon == ' '; colon++)
                ;
            return colon;
        }
        json = end;
    }
    return NULL;
}

const char *json_end(const char *object)
{
    int depth = 0;
    for (const char *at = object; *at; at++) {
        if (*at == '"')
            at = behind_string(at) - 1;
        else if (*at == '{')
            depth++;
        else if (*at == '}' && --depth == 0)
            return at + 1;
    }
    return object + strlen(object);
}

int64_t json_number(const char *json, const char *name)
{
    const char *at = json_field(json, name);
    if (!at || *at < '0' || *at > '9')
        return -1;
    uint64_t n = 0;
    for (; *at >= '0' && *at <= '9' && n < INT64_MAX / 10 - 9; at++)
        n = n * 10 + (uint64_t)(*at - '0');
    return (int64_t)n;
}

void wire_say(const char *what, const char *reason)
{
    const char *quiet = getenv("KEEPAHEAD_QUIET");
    if (quiet && *quiet && strcmp(quiet, "0") != 0)
        return;
    char line[512];
    struct text t;
    text_begin(&t, line, sizeof line);
    text_add(&t, "keepahead: ");
    text_add(&t, what);
    text_add(&t, ": ");
    text_add(&t, reason);
    text_add(&t, "; going on without it\n");
    ssize_t ignored = write(STDERR_FILENO, line, t.length);
    (void)ignored;
}
