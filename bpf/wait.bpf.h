/* SPDX-License-Identifier: GPL-2.0-only */
//! Stall: time that tasks sleep for demanded pages, and reads that the disks complete.
//!
//! `io_schedule()` keeps `in_iowait` set across the sleep. Readers and faults wait for a page in
//! TASK_KILLABLE; fsync, direct I/O, the journal and buffers wait in plain TASK_UNINTERRUPTIBLE,
//! which therefore counts only while the kernel fills a window for the task: from the event that
//! begins it to the wait for its page. (A fault that writes has no event at its end. Where direct
//! reads came a millisecond after such faults, 125 ms were counted of 33 that they took.)
#ifndef KEEPAHEAD_WAIT_H
#define KEEPAHEAD_WAIT_H

#include "readahead.bpf.h"

#define TASK_WAKEKILL 0x100

static __always_inline u64 task_flags(struct task_struct *task)
{
	struct task_struct___before_5_14 *old = (void *)task;

	return bpf_core_field_exists(task->__state) ? task->__state : old->state;
}

static __always_inline void on_sleep(struct task_struct *task)
{
	struct task *t = state_of_task(task);
	u64 now;

	if (!t)
		return;
	now = bpf_ktime_get_ns();
	t->wait_page = !!(task_flags(task) & TASK_WAKEKILL);
	if (t->wait_page || (t->filling && demand_is_fresh(t, now)))
		t->wait_start = now;
}

/* The wait is over: to the open demand, else kept for the read that follows. */
static __always_inline void on_wake(struct task_struct *task)
{
	struct task *t = state_of_task(task);
	struct ka_counters *c;
	u64 now, ns;

	if (!t || !t->wait_start)
		return;
	now = bpf_ktime_get_ns();
	ns = now - t->wait_start;
	if (!demand_is_fresh(t, t->wait_start) || (t->kind == DEMAND_ASYNC && t->wait_page)) {
		t->pending_ns += ns;
		t->pending_count++;
		t->wait_start = 0;
		return;
	}
	c = counters_of(t->slot);
	/* Not what a read copies between two waits: before 6.12 it has one event, at its return.
	 * (6.1, 128 MiB in windows of 8: 2.7 s of fill with it, 1.9 without.) */
	if (c && t->filling)
		count_fill(t, c, t->wait_start);
	if (t->wait_page)
		t->filling = 0;
	t->wait_start = 0;
	t->step = now;
	if (!c)
		return;
	hist_add(c->stall_hist, ns / 1000, 1);
	if (t->kind != DEMAND_FAULT) {
		c->read_stall_ns += ns;
		return;
	}
	c->mmap_stall_ns += ns;
	t->mmap_last = now;
	if (!t->missed && !t->late) {
		t->late = 1;
		c->mmap_late++;
		c->spec_used_late += t->pages_late;
	}
}

#define REQ_OP_MASK 0xff
#define REQ_OP_READ 0

static __always_inline void on_rq_complete(struct request *rq, u32 bytes)
{
	struct request_queue *q = BPF_CORE_READ(rq, q);
	struct request_queue___before_5_15 *old = (void *)q;
	struct backing_dev_info *bdi;
	struct ka_counters *c;
	u64 start, ns;

	if ((BPF_CORE_READ(rq, cmd_flags) & REQ_OP_MASK) != REQ_OP_READ || !bytes)
		return;
	if (bpf_core_field_exists(q->disk))
		bdi = bdi_of_disk(BPF_CORE_READ(q, disk));
	else
		bdi = BPF_CORE_READ(old, backing_dev_info);
	c = counters_of(slot_of_bdi(bdi));
	if (!c)
		return;
	c->dev_read_bytes += bytes;
	if (bytes < BPF_CORE_READ(rq, __data_len)) /* a part; the request completes later */
		return;
	c->dev_reads++;
	hist_add(c->dev_size_hist, bytes >> 10, 1);
	start = BPF_CORE_READ(rq, start_time_ns);
	if (!start) /* the queue keeps no statistics */
		return;
	ns = bpf_ktime_get_ns() - start;
	c->dev_read_ns += ns;
	hist_add(c->dev_latency_hist, ns / 1000, 1);
}

#endif
