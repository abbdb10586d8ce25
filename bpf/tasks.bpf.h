/* SPDX-License-Identifier: GPL-2.0-only */
//! What a task is doing: the demand and window it has open, the files it reads as streams. Kept
//! with the task where the kernel can, else by thread id.
#ifndef KEEPAHEAD_TASKS_H
#define KEEPAHEAD_TASKS_H

#include "maps.bpf.h"

enum demand_kind {
	DEMAND_NONE,
	DEMAND_SYNC,
	DEMAND_ASYNC,
	DEMAND_FAULT
};

/* What a task reads of one file. Kept for the files that it reads by turns, in sets of two.
 * Positions are their low halves: with 24 bytes a stream, a task's state takes 4 KiB of slab
 * instead of 8. */
#define STREAM_SETS 32
#define STREAMS	    (2 * STREAM_SETS)
/* Pages, as in core/src/features.rs. */
#define LONG_RUN    64
struct stream {
	u64 mapping; /* odd: the name of a region, no address */
	u32 next; /* read: the page after the last request. mmap: position of the last visible fault
		   */
	u32 end;  /* mmap: last page of its window. read: own_epoch when `slot` was found */
	u32 run;  /* pages */
	u32 slot; /* whose run it is */
};

/* The page nearest to `page` that a stream's position stands for: files beyond 16 TiB have more. */
static __always_inline u64 near(u64 page, u32 position)
{
	return page - (s64)(int)((u32)page - position);
}

struct task {
	u64 mapping; /* of the open demand and window */
	u64 start;   /* demanded pages [start, end) */
	u64 end;
	u64 window_start; /* window [window_start, window_end) */
	u64 window_end;
	u64 step; /* when the demand or its window opened, a page was added or a wait ended, ns */
	u64 wait_start; /* asleep for a page since, ns */
	u64 pending_ns; /* slept for pages of no known demand yet */
	u64 pages_late; /* weight of the faulted page if it was speculative */
	u64 request_mapping;
	u64 request_index;
	u64 request_last;
	u64 argument;
	u64 fault_of;  /* stream of the last visible fault */
	u64 mmap_last; /* end of the last fault, ns */
	u64 read_iocb; /* kprobe: of the read that has not returned */
	u64 read_from; /* and where it started, bytes */
	u32 slot;
	u32 pending_count;
	u8 kind;
	u8 window;
	u8 stale;
	u8 missed;
	u8 late;
	u8 wait_page;
	u8 marker; /* the open fault met the marker; its window is to come */
	u8 filling; /* the kernel reads ahead: what it does from `step` on is fill */
	struct stream read[STREAMS];
	struct stream mmap[STREAMS];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task);
} tasks SEC(".maps");

/* Kernels before 5.12 give no task storage to tracing programs: there, state is found by thread id,
 * and the least recently seen of many threads loses its own. User space makes one of the two maps.
 */
const volatile bool has_task_storage = true;

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct task);
} tasks_by_tid SEC(".maps");

/* Zeros: a task's state is larger than a program's stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct task);
} blank_task SEC(".maps");

/* What this process reads for others it is not to be tuned for. 0: nobody is left out. */
const volatile u32 own_tgid = 0;

static __always_inline struct task *task_state(bool create)
{
	struct task *t, *blank;
	u32 tid, zero = 0;

	if (own_tgid && bpf_get_current_pid_tgid() >> 32 == own_tgid)
		return 0;
	if (has_task_storage)
		return bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0,
					    create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	tid = bpf_get_current_pid_tgid();
	t = bpf_map_lookup_elem(&tasks_by_tid, &tid);
	if (t || !create)
		return t;
	blank = bpf_map_lookup_elem(&blank_task, &zero);
	if (!blank)
		return 0;
	bpf_map_update_elem(&tasks_by_tid, &tid, blank, BPF_NOEXIST);
	return bpf_map_lookup_elem(&tasks_by_tid, &tid);
}

/* State of a task that need not be the current one; none is made. */
static __always_inline struct task *state_of_task(struct task_struct *task)
{
	u32 tid;

	if (has_task_storage)
		return bpf_task_storage_get(&tasks, task, 0, 0);
	tid = task->pid;
	return bpf_map_lookup_elem(&tasks_by_tid, &tid);
}

/* The file's stream, or the place that it is to take. Of two that are taken chance gives one up:
 * files read in turns, one more than there are places, would each push out the next for good if the
 * older one went. */
static __always_inline struct stream *stream_of(struct stream *streams, u64 mapping)
{
	u64 set = (mapping >> 6) * 0x9e3779b97f4a7c15ULL >> 59;
	struct stream *s = &streams[2 * set & (STREAMS - 2)];

	if (s[0].mapping == mapping)
		return s;
	if (s[1].mapping == mapping)
		return s + 1;
	if (s[0].mapping && (!s[1].mapping || bpf_get_prandom_u32() & 1))
		return s + 1;
	return s;
}

/* Pages of the short run that another file's takes the place of, and of which nobody will know how
 * it went on. A long one is known to be long. One that was read to the end of its file is no short
 * run, however small the file is: if the file is gone it has no pages left, or, with its memory in
 * other hands, any number, and one run is counted in error. Where a region ends is not known here:
 * its runs are not cut. */
static __always_inline u32 cut_run(struct stream *s, u64 mapping, u64 read_to)
{
	u64 pages, old = s->mapping;
	struct inode *inode;

	if (!old || old & 1 || old == mapping || s->slot >= KA_MAX_SLOTS || s->run >= LONG_RUN)
		return 0;
	inode = BPF_CORE_READ((struct address_space *)old, host);
	pages = ((u64)BPF_CORE_READ(inode, i_size) + 4095) >> 12;
	return read_to < pages ? s->run : 0;
}

/* What a task does or sleeps for belongs to an open demand within this time of the demand, of the
 * last page added for it or of its last wait: a fault's demand has no end of its own, and an fsync
 * long after it is none of its business. */
#define SAME_DEMAND_NS 5000000

static __always_inline bool demand_is_fresh(struct task *t, u64 now)
{
	return t->kind != DEMAND_NONE && now - t->step < SAME_DEMAND_NS;
}

/* What the kernel has worked on the open demand since its last step. One that takes longer than
 * SAME_DEMAND_NS has been preempted more than it reclaimed. */
static __always_inline void count_fill(struct task *t, struct ka_counters *c, u64 now)
{
	u64 ns = now - t->step;

	if (ns > SAME_DEMAND_NS)
		ns = SAME_DEMAND_NS;
	if (t->kind == DEMAND_FAULT)
		c->mmap_fill_ns += ns;
	else
		c->read_fill_ns += ns;
}

#endif
