/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the parts of libkeepahead share: the handle, and calls on its line. Not installed. */
#ifndef KEEPAHEAD_HANDLE_H
#define KEEPAHEAD_HANDLE_H

#include "keepahead.h"
#include "wire.h"

#include <sys/types.h>

/* Longest message built here: 2048 ranges of at most 90 characters each, a name and the frame. The agent takes 1 MiB. */
#define MESSAGE_ROOM (192 << 10)
/* The agent's longest answer is that to a Prefetch on a slow device. */
#define ANSWER_MS 60000

struct orders;

struct keepahead {
    int fd;
    pid_t pid;
    char *reply;
    size_t room;
    /* Those of each workload that has regions. */
    struct orders *orders;
    char path[108]; /* as long as sun_path of unix(7) */
    char error[256];
    char message[MESSAGE_ROOM];
};

/* Once in a process. */
void handle_say(const char *what, const char *reason);
/* Begins a message about a workload in k->message. */
void handle_call(keepahead *k, struct text *t, const char *method, int64_t workload);
/* Sends the message and takes its answer. 1: k->reply has it; 0: no agent; -1: refused. */
int handle_ask(keepahead *k, struct text *t, const int *fds, size_t count);
/* One whole reply into *reply, which grows. 1, or 0 with errno where the line is of no use any more. */
int handle_receive(int fd, char **reply, size_t *room);

/* Ends the orders of one workload, or of all (0): advice is taken back. */
void orders_end(keepahead *k, int64_t workload);

#endif
