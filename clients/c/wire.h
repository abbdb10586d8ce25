/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The line to the agent, for libkeepahead and the preload shim. Nothing here allocates, locks or uses stdio, so that it may run
 * inside open(2) of any program, in a signal handler and after fork.
 */
#ifndef KEEPAHEAD_WIRE_H
#define KEEPAHEAD_WIRE_H

#include <stddef.h>
#include <stdint.h>

/* Descriptors in one message: the kernel's SCM_MAX_FD. */
#define WIRE_FDS 253

/* Text being built in memory of the caller; what does not fit sets `cut`. */
struct text {
    char *at;
    size_t room;
    size_t length;
    int cut;
};

void text_begin(struct text *t, char *memory, size_t room);
void text_add(struct text *t, const char *raw);
void text_number(struct text *t, uint64_t n);
/* As a JSON string, quoted and escaped. */
void text_string(struct text *t, const char *raw);
/* `{"method":"io.keepahead.Control.METHOD","parameters":` and its end with the NUL. */
void text_call(struct text *t, const char *method);
void text_end(struct text *t, int oneway);

/* KEEPAHEAD_SOCKET of the environment, or the default. */
const char *wire_socket_path(void);
/* A connected close-on-exec socket, or -1 with errno. */
int wire_connect(const char *path, int timeout_ms);
/* Sends a whole message, descriptors with its first byte. 0, or -1 with errno (ETIMEDOUT after timeout_ms). */
int wire_send(int fd, const char *bytes, size_t length, const int *fds, size_t count, int timeout_ms);
/* Reads some bytes. Their number, 0 at the end, -1 with errno. */
ptrdiff_t wire_receive(int fd, char *bytes, size_t room, int timeout_ms);

/* The value of the first field of this name in a JSON text, at any depth; NULL where there is none. */
const char *json_field(const char *json, const char *name);
/* Behind the object that begins here, or at the end of a text that is cut. */
const char *json_end(const char *object);
/* The number at a field, or -1. */
int64_t json_number(const char *json, const char *name);

/* One line on standard error, unless KEEPAHEAD_QUIET is set: `keepahead: WHAT: REASON; going on without it`. */
void wire_say(const char *what, const char *reason);

#endif
