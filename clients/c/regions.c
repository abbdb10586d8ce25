/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Regions of this process's memory: a thread for each workload that has any waits for the agent's orders on a line of its own, and
 * gives the kernel the advice, because nobody else may (process_madvise(2) refuses it).
 */
#include "handle.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* The agent takes no more of one workload. */
#define REGIONS 8

struct region {
    int64_t number;
    void *address;
    size_t length;
    int advice;
};

struct orders {
    struct orders *next;
    int64_t workload;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    struct region regions[REGIONS];
    size_t count;
    int fd; /* the thread's line, -1 before and after */
    int ended;
    char path[108];
};

/* All that is ever carried out: what changes nothing but what is read ahead and what is kept. */
static int flag_of(const char *word)
{
    static const struct {
        const char *word;
        int flag;
    } known[] = {{"\"normal\"", MADV_NORMAL}, {"\"random\"", MADV_RANDOM}, {"\"sequential\"", MADV_SEQUENTIAL}};
    for (size_t n = 0; word && n < sizeof known / sizeof *known; n++)
        if (strncmp(word, known[n].word, strlen(known[n].word)) == 0)
            return known[n].flag;
    return -1;
}

/* The errno; 0 where it was done. */
static int advise(struct region *r, int flag)
{
    if (madvise(r->address, r->length, flag) != 0)
        return errno;
    r->advice = flag;
    return 0;
}

static void withdraw(struct region *r)
{
    if (r->advice != MADV_NORMAL)
        advise(r, MADV_NORMAL);
}

static struct region *find(struct orders *o, int64_t number)
{
    for (size_t n = 0; n < o->count; n++)
        if (o->regions[n].number == number)
            return &o->regions[n];
    return NULL;
}

/* Carries out the orders of a reply; appends what became of each to the next message. */
static void carry_out(struct orders *o, char *reply, struct text *t)
{
    char *at = (char *)json_field(reply, "orders"), *order;
    for (int n = 0; at && (order = strchr(at, '{')); n++) {
        char *end = (char *)json_end(order), behind = *end;
        *end = '\0';
        pthread_mutex_lock(&o->lock);
        struct region *r = find(o, json_number(order, "region"));
        int flag = flag_of(json_field(order, "advice"));
        int done = !r ? ENOENT : flag < 0 ? EPERM : advise(r, flag);
        pthread_mutex_unlock(&o->lock);
        text_add(t, n > 0 ? ",{\"order\":" : "{\"order\":");
        text_number(t, (uint64_t)json_number(order, "order"));
        text_add(t, ",\"errno\":");
        text_number(t, (uint64_t)done);
        text_add(t, "}");
        *end = behind;
        at = end;
    }
}

static void begin(struct orders *o, struct text *t, char *message, size_t room)
{
    text_begin(t, message, room);
    text_call(t, "Orders");
    text_add(t, "{\"workload\":");
    text_number(t, (uint64_t)o->workload);
    text_add(t, ",\"done\":[");
}

static int has_ended(struct orders *o, int fd)
{
    pthread_mutex_lock(&o->lock);
    o->fd = fd;
    int ended = o->ended;
    pthread_mutex_unlock(&o->lock);
    return ended;
}

static void *serve(void *of)
{
    struct orders *o = of;
    char message[2048], *reply = NULL;
    size_t room = 0;
    int fd = wire_connect(o->path, ANSWER_MS), lost = fd < 0;
    struct text t;
    begin(o, &t, message, sizeof message);
    while (!has_ended(o, fd) && !lost) {
        text_add(&t, "]}");
        text_end(&t, 0);
        lost = wire_send(fd, t.at, t.length, NULL, 0, ANSWER_MS) != 0 || !handle_receive(fd, &reply, &room);
        const char *error = lost ? NULL : json_field(reply, "error");
        if (error) {
            /* A workload that ends takes its orders along. */
            if (!strstr(error, "NoSuchWorkload"))
                handle_say("orders from the agent", error);
            break;
        }
        begin(o, &t, message, sizeof message);
        if (!lost)
            carry_out(o, reply, &t);
    }
    int reason = errno;
    if (!has_ended(o, -1) && lost)
        handle_say("orders from the agent", reason ? strerror(reason) : "closed");
    if (fd >= 0)
        close(fd);
    free(reply);
    pthread_mutex_lock(&o->lock);
    for (size_t n = 0; n < o->count; n++)
        withdraw(&o->regions[n]);
    pthread_mutex_unlock(&o->lock);
    return NULL;
}

static struct orders *orders_of(keepahead *k, int64_t workload)
{
    struct orders *o = k->orders;
    while (o && o->workload != workload)
        o = o->next;
    return o;
}

static struct orders *start(keepahead *k, int64_t workload)
{
    struct orders *o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    o->workload = workload;
    o->fd = -1;
    memcpy(o->path, k->path, sizeof o->path);
    pthread_mutex_init(&o->lock, NULL);
    /* The program's signals are for its own threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int refused = pthread_create(&o->thread, NULL, serve, o);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (refused) {
        free(o);
        return NULL;
    }
    o->next = k->orders;
    k->orders = o;
    return o;
}

int64_t keepahead_add_region(keepahead *k, int64_t workload, void *address, size_t length, uint64_t file, uint64_t offset)
{
    if (!keepahead_connected(k))
        return 0;
    struct text t;
    handle_call(k, &t, "AddRegions", workload);
    text_add(&t, ",\"regions\":[{\"address\":");
    text_number(&t, (uint64_t)(uintptr_t)address);
    text_add(&t, ",\"length\":");
    text_number(&t, length);
    text_add(&t, ",\"file\":");
    text_number(&t, file);
    text_add(&t, ",\"offset\":");
    text_number(&t, offset);
    text_add(&t, "}]}");
    int done = handle_ask(k, &t, NULL, 0);
    if (done <= 0)
        return done;
    int64_t number = json_number(k->reply, "first");
    struct orders *o = orders_of(k, workload);
    if (!o && !(o = start(k, workload)))
        return number; /* no memory or thread for orders: none will come */
    /* Orders follow some seconds of watching, never at once. */
    pthread_mutex_lock(&o->lock);
    if (o->count < REGIONS)
        o->regions[o->count++] = (struct region){number, address, length, MADV_NORMAL};
    pthread_mutex_unlock(&o->lock);
    return number;
}

int keepahead_remove_region(keepahead *k, int64_t workload, int64_t region)
{
    struct orders *o = orders_of(k, workload);
    if (!keepahead_connected(k) && k->pid != getpid())
        return 0;
    if (o) {
        pthread_mutex_lock(&o->lock);
        struct region *r = find(o, region);
        if (r) {
            withdraw(r);
            *r = o->regions[--o->count];
        }
        pthread_mutex_unlock(&o->lock);
    }
    if (!keepahead_connected(k))
        return 0;
    struct text t;
    handle_call(k, &t, "RemoveRegion", workload);
    text_add(&t, ",\"region\":");
    text_number(&t, (uint64_t)region);
    text_add(&t, "}");
    return handle_ask(k, &t, NULL, 0) < 0 ? -1 : 0;
}

void orders_end(keepahead *k, int64_t workload)
{
    for (struct orders **at = &k->orders, *o; (o = *at);) {
        if (workload != 0 && o->workload != workload) {
            at = &o->next;
            continue;
        }
        *at = o->next;
        /* The child of a fork has no thread, and a lock that the parent's may hold. */
        if (k->pid == getpid()) {
            pthread_mutex_lock(&o->lock);
            o->ended = 1;
            if (o->fd >= 0)
                shutdown(o->fd, SHUT_RDWR);
            pthread_mutex_unlock(&o->lock);
            pthread_join(o->thread, NULL);
            pthread_mutex_destroy(&o->lock);
        }
        free(o);
    }
}
