/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* libkeepahead: takes the calls of keepahead.h, gives messages to the agent and its answers back. */
#include "handle.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RANGES_AT_ONCE 2048

void handle_say(const char *what, const char *reason)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&said))
        wire_say(what, reason);
}

keepahead *keepahead_open(const char *socket)
{
    keepahead *k = calloc(1, sizeof *k);
    if (!k)
        return NULL;
    const char *path = socket ? socket : wire_socket_path();
    k->pid = getpid();
    strncpy(k->path, path, sizeof k->path - 1);
    k->fd = wire_connect(path, ANSWER_MS);
    if (k->fd < 0)
        handle_say(path, strerror(errno));
    return k;
}

void keepahead_close(keepahead *k)
{
    if (!k)
        return;
    orders_end(k, 0);
    if (k->fd >= 0)
        close(k->fd);
    free(k->reply);
    free(k);
}

int keepahead_connected(const keepahead *k)
{
    return k->fd >= 0 && k->pid == getpid();
}

const char *keepahead_error(const keepahead *k)
{
    return k->error;
}

static int lose(keepahead *k)
{
    handle_say("the agent's socket", errno ? strerror(errno) : "closed");
    close(k->fd);
    k->fd = -1;
    return 0;
}

int handle_receive(int fd, char **reply, size_t *room)
{
    size_t length = 0;
    for (;;) {
        if (*room - length < 2) {
            char *more = realloc(*reply, *room ? *room * 2 : 4096);
            if (!more)
                return 0;
            *reply = more;
            *room = *room ? *room * 2 : 4096;
        }
        errno = 0;
        ptrdiff_t got = wire_receive(fd, *reply + length, *room - length, ANSWER_MS);
        if (got <= 0)
            return 0;
        length += (size_t)got;
        if ((*reply)[length - 1] == '\0')
            return 1;
    }
}

int handle_ask(keepahead *k, struct text *t, const int *fds, size_t count)
{
    k->error[0] = '\0';
    text_end(t, 0);
    if (t->cut) {
        strcpy(k->error, "the name is too long");
        return -1;
    }
    if (wire_send(k->fd, t->at, t->length, fds, count, ANSWER_MS) != 0) {
        /* A descriptor that is none is the caller's mistake, and nothing was sent. */
        if (errno != EBADF)
            return lose(k);
        strcpy(k->error, "one of the descriptors is not open");
        return -1;
    }
    if (!handle_receive(k->fd, &k->reply, &k->room))
        return lose(k);
    const char *error = json_field(k->reply, "error");
    if (!error)
        return 1;
    strncpy(k->error, k->reply, sizeof k->error - 1);
    return -1;
}

static void begin(keepahead *k, struct text *t, const char *method)
{
    text_begin(t, k->message, sizeof k->message);
    text_call(t, method);
}

void handle_call(keepahead *k, struct text *t, const char *method, int64_t workload)
{
    begin(k, t, method);
    text_add(t, "{\"workload\":");
    text_number(t, (uint64_t)workload);
}

int64_t keepahead_register(keepahead *k, const char *name, uint64_t budget, const char *hint, const int *fds, size_t count)
{
    if (!keepahead_connected(k))
        return 0;
    struct text t;
    begin(k, &t, "Register");
    text_add(&t, "{\"name\":");
    text_string(&t, name);
    text_add(&t, ",\"budget_bytes\":");
    text_number(&t, budget);
    if (hint) {
        text_add(&t, ",\"hint\":");
        text_string(&t, hint);
    }
    text_add(&t, "}");
    int done = handle_ask(k, &t, NULL, 0);
    if (done <= 0)
        return done;
    int64_t workload = json_number(k->reply, "workload");
    if (count > 0 && keepahead_add_files(k, workload, fds, count) < 0) {
        char why[sizeof k->error];
        memcpy(why, k->error, sizeof why);
        keepahead_unregister(k, workload);
        memcpy(k->error, why, sizeof why);
        return -1;
    }
    return workload;
}

int64_t keepahead_add_files(keepahead *k, int64_t workload, const int *fds, size_t count)
{
    int64_t first = -1;
    for (size_t at = 0; at < count && keepahead_connected(k); at += WIRE_FDS) {
        struct text t;
        handle_call(k, &t, "AddFiles", workload);
        text_add(&t, "}");
        int done = handle_ask(k, &t, fds + at, count - at < WIRE_FDS ? count - at : WIRE_FDS);
        if (done < 0)
            return -1;
        if (done > 0 && first < 0)
            first = json_number(k->reply, "first");
    }
    return first < 0 ? 0 : first;
}

/* A call with ranges, in as many messages as they need. The sum of the replies' `field`, or -1. */
static int64_t with_ranges(keepahead *k, const char *method, int64_t workload, const struct keepahead_range *ranges,
                           size_t count, const char *field)
{
    int64_t sum = 0;
    for (size_t at = 0; at < count && keepahead_connected(k);) {
        struct text t;
        handle_call(k, &t, method, workload);
        text_add(&t, ",\"ranges\":[");
        size_t end = count - at < RANGES_AT_ONCE ? count : at + RANGES_AT_ONCE;
        for (size_t n = at; n < end; n++) {
            text_add(&t, n > at ? ",{\"file\":" : "{\"file\":");
            text_number(&t, ranges[n].file);
            text_add(&t, ",\"offset\":");
            text_number(&t, ranges[n].offset);
            text_add(&t, ",\"length\":");
            text_number(&t, ranges[n].length);
            text_add(&t, "}");
        }
        text_add(&t, "]}");
        at = end;
        int done = handle_ask(k, &t, NULL, 0);
        if (done < 0)
            return -1;
        if (done > 0 && field)
            sum += json_number(k->reply, field);
    }
    return sum;
}

int keepahead_plan(keepahead *k, int64_t workload, const struct keepahead_range *ranges, size_t count)
{
    return (int)with_ranges(k, "Plan", workload, ranges, count, NULL);
}

int64_t keepahead_prefetch(keepahead *k, int64_t workload, const struct keepahead_range *ranges, size_t count)
{
    return with_ranges(k, "Prefetch", workload, ranges, count, "cached_bytes");
}

int64_t keepahead_discard(keepahead *k, int64_t workload, const struct keepahead_range *ranges, size_t count)
{
    return with_ranges(k, "Discard", workload, ranges, count, "dropped_bytes");
}

void keepahead_position(keepahead *k, int64_t workload, uint64_t range, uint64_t offset)
{
    if (!keepahead_connected(k))
        return;
    struct text t;
    handle_call(k, &t, "Position", workload);
    text_add(&t, ",\"range\":");
    text_number(&t, range);
    text_add(&t, ",\"offset\":");
    text_number(&t, offset);
    text_add(&t, "}");
    text_end(&t, 1);
    if (wire_send(k->fd, t.at, t.length, NULL, 0, ANSWER_MS) != 0)
        lose(k);
}

const char *keepahead_stats(keepahead *k, int64_t workload)
{
    if (!keepahead_connected(k))
        return NULL;
    struct text t;
    handle_call(k, &t, "Stats", workload);
    text_add(&t, "}");
    if (handle_ask(k, &t, NULL, 0) <= 0)
        return NULL;
    char *object = (char *)json_field(k->reply, "parameters");
    if (object)
        *(char *)json_end(object) = '\0';
    return object;
}

int keepahead_unregister(keepahead *k, int64_t workload)
{
    if (workload != 0)
        orders_end(k, workload);
    if (!keepahead_connected(k))
        return 0;
    struct text t;
    handle_call(k, &t, "Unregister", workload);
    text_add(&t, "}");
    return handle_ask(k, &t, NULL, 0) < 0 ? -1 : 0;
}
