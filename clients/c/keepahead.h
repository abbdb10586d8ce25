/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * libkeepahead: tell keepahead what this program is about to read, and have it in the page cache when you come to it.
 *
 * Without an agent every call returns at once as if it had been made, and one line on standard error says so (KEEPAHEAD_QUIET=1
 * silences it). A refusal by a living agent is an error: -1, and keepahead_error() has the agent's words. An agent that goes away,
 * or does not answer for a minute, counts as none from then on.
 *
 * A handle is for one thread at a time. After fork() the child's copy does nothing; keepahead_open() another there.
 */
#ifndef KEEPAHEAD_H
#define KEEPAHEAD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* length bytes of file number `file` of the workload, from byte `offset`; length 0: to the end of the file as it is now. */
struct keepahead_range {
    uint64_t file;
    uint64_t offset;
    uint64_t length;
};

typedef struct keepahead keepahead;

/* Connects. socket: path of the agent's socket; NULL: KEEPAHEAD_SOCKET of the environment, or /run/keepahead/control.sock.
 * NULL only where memory is short. */
keepahead *keepahead_open(const char *socket);

/* Ends the connection and all its workloads. NULL is allowed. */
void keepahead_close(keepahead *k);

/* 1 where an agent listens, else 0. */
int keepahead_connected(const keepahead *k);

/* The agent's words for the last call that returned -1; never NULL. Valid until the next call. */
const char *keepahead_error(const keepahead *k);

/* Registers a workload. budget: bytes that may lie prefetched and unread. hint: NULL, or "sequential", "random", "strided",
 * "shuffled", "once" or "reused". fds: its files 0, 1, 2 ..., which may be closed afterwards. The workload's number; 0 without an
 * agent; -1: refused. */
int64_t keepahead_register(keepahead *k, const char *name, uint64_t budget, const char *hint, const int *fds, size_t count);

/* Adds files, any number of them. The number of the first; 0 without an agent; -1: refused. */
int64_t keepahead_add_files(keepahead *k, int64_t workload, const int *fds, size_t count);

/* Appends ranges in the order in which they will be read; reading ahead begins at once. 0, or -1: refused. */
int keepahead_plan(keepahead *k, int64_t workload, const struct keepahead_range *ranges, size_t count);

/* The reader begins with range number `range` of the plan, `offset` bytes into it. One send, no answer is waited for. */
void keepahead_position(keepahead *k, int64_t workload, uint64_t range, uint64_t offset);

/* Reads ranges into the page cache now and waits for them. Bytes cached then; 0 without an agent; -1: refused. */
int64_t keepahead_prefetch(keepahead *k, int64_t workload, const struct keepahead_range *ranges, size_t count);

/* Drops ranges from the page cache where they are clean and unmapped. Bytes; 0 without an agent; -1: refused. */
int64_t keepahead_discard(keepahead *k, int64_t workload, const struct keepahead_range *ranges, size_t count);

/* Hands memory over in which file number `file` of the workload is mapped from byte `offset` on (both on a page's border), at most 8
 * regions of a workload. A thread of the library takes the agent's orders for it: MADV_NORMAL, MADV_RANDOM and MADV_SEQUENTIAL, nothing
 * else. The region's number; 0 without an agent too; -1: refused. */
int64_t keepahead_add_region(keepahead *k, int64_t workload, void *address, size_t length, uint64_t file, uint64_t offset);

/* Takes advice back. Before the memory is unmapped. 0, or -1: refused. */
int keepahead_remove_region(keepahead *k, int64_t workload, int64_t region);

/* The workload's figures as the agent sends them, a JSON object; NULL without an agent or where it refuses. Valid until the next
 * call. The fields are those of `Stats` in docs/control-reference.md. */
const char *keepahead_stats(keepahead *k, int64_t workload);

/* Ends a workload: what was advised for it is withdrawn. 0, or -1: refused. */
int keepahead_unregister(keepahead *k, int64_t workload);

#ifdef __cplusplus
}
#endif
#endif
