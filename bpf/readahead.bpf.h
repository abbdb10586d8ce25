/* SPDX-License-Identifier: GPL-2.0-only */
//! Readahead windows, and pages entering and leaving the page cache. Which page was asked for and
//! which was guessed is known from the demand (read, fault) and the window that the current task
//! has open.
#ifndef KEEPAHEAD_READAHEAD_H
#define KEEPAHEAD_READAHEAD_H

#include "speculation.bpf.h"
#include "tasks.bpf.h"

enum window_kind {
	WINDOW_NONE,
	WINDOW_READAHEAD,
	WINDOW_ADVICE
};

/* A file with a window of its own differs from its bdi on purpose. */
static __always_inline bool is_stale(u32 slot, struct inode *inode, struct file_ra_state *ra)
{
	return !is_own(slot) &&
	       BPF_CORE_READ(ra, ra_pages) != BPF_CORE_READ(bdi_of_inode(inode), ra_pages);
}

static __always_inline void on_sync_ra(struct inode *inode, u64 mapping, u64 index,
				       struct file_ra_state *ra, u64 req)
{
	u32 slot = slot_of_inode(inode);
	struct ka_counters *c = counters_of(slot);
	struct task *t;

	if (!c)
		return;
	c->sync_ra++;
	c->events++;
	t = task_state(true);
	if (!t)
		return;
	t->window = WINDOW_NONE;
	t->stale = is_stale(slot, inode, ra);
	t->step = bpf_ktime_get_ns();
	t->filling = 1;
	/* A fault under MADV_SEQUENTIAL asks for a whole window here, but it demands one page, and
	 * counts where the fault does: for its region. */
	if (t->kind == DEMAND_FAULT && t->mapping == mapping && t->start == index)
		return;
	t->slot = slot;
	t->kind = DEMAND_SYNC;
	t->mapping = mapping;
	t->start = index;
	t->end = index + req;
}

static __always_inline void on_async_ra(struct inode *inode, u64 mapping, struct file_ra_state *ra)
{
	u32 slot = slot_of_inode(inode);
	struct ka_counters *c = counters_of(slot);
	struct task *t;

	if (!c)
		return;
	c->async_ra++;
	c->events++;
	t = task_state(true);
	if (!t)
		return;
	t->window = WINDOW_NONE;
	t->stale = is_stale(slot, inode, ra);
	t->step = bpf_ktime_get_ns();
	t->filling = 1;
	/* The page of an open fault stays demanded; all that this call adds is a guess. */
	if (t->kind == DEMAND_FAULT && t->mapping == mapping) {
		t->marker = 1;
		return;
	}
	t->slot = slot;
	t->kind = DEMAND_ASYNC;
	t->mapping = mapping;
	t->start = t->end = 0;
}

static __always_inline void open_window(struct task *t, struct ka_counters *c, u64 index, u64 size,
					bool stale)
{
	t->window = WINDOW_READAHEAD;
	t->marker = 0;
	if (!t->filling) /* no sync_ra or async_ra before it: a fault's, or a kernel without them */
		t->step = bpf_ktime_get_ns();
	t->filling = 1;
	t->window_start = index;
	t->window_end = index + size;
	c->windows++;
	c->window_pages += size;
	c->stale_windows += stale;
	hist_add(c->window_hist, size, 1);
}

static __always_inline void on_ra_order(struct inode *inode, u64 mapping, u64 index,
					struct file_ra_state *ra)
{
	u32 slot = slot_of_inode(inode);
	struct ka_counters *c = counters_of(slot);
	struct task *t;

	if (!c)
		return;
	c->events++;
	t = task_state(true);
	if (!t)
		return;
	if (t->kind == DEMAND_NONE || t->mapping != mapping) {
		t->kind = DEMAND_ASYNC;
		t->mapping = mapping;
		t->start = t->end = 0;
		t->slot = slot;
	}
	open_window(t, c, index, BPF_CORE_READ(ra, size), is_stale(slot, inode, ra));
}

static __always_inline void on_ra_unbounded(struct inode *inode, u64 mapping, u64 index, u64 nr)
{
	struct task *t = task_state(true);
	struct ka_counters *c;

	if (!t)
		return;
	/* The fallback of ra_order, for the same window: nothing new. */
	if (t->window == WINDOW_READAHEAD && t->mapping == mapping && index >= t->window_start &&
	    index < t->window_end)
		return;
	/* A fault's demand stays open until the task's next event, so advice may follow it: a
	 * window of its own holds the page, or starts at the marker (no ra_order before 5.18). */
	if (t->mapping != mapping || t->kind == DEMAND_NONE ||
	    (t->kind == DEMAND_FAULT && !t->marker &&
	     (t->start < index || t->start >= index + nr))) {
		/* WILLNEED, readahead(2): the application asked, not the knob. */
		t->kind = DEMAND_NONE;
		t->window = WINDOW_ADVICE;
		t->mapping = mapping;
		t->window_start = index;
		t->window_end = index + nr;
		return;
	}
	c = counters_of(t->slot);
	if (!c)
		return;
	c->events++;
	open_window(t, c, index, nr, t->stale);
}

static __always_inline void count_miss(struct task *t, struct ka_counters *c, u64 mapping,
				       u64 pages)
{
	struct ka_file *file = file_of(mapping, t->slot);

	if (t->kind == DEMAND_FAULT) {
		t->missed = 1;
		c->mmap_miss += pages;
	} else {
		c->read_miss += pages;
	}
	if (file)
		file->miss += pages;
}

static __always_inline void count_guess(struct task *t, struct ka_counters *c, u64 mapping,
					u64 first, u64 last)
{
	u64 put = first <= last ? put_pages(mapping, first, last) : 0;
	struct ka_file *file;

	if (!put)
		return;
	c->spec_added += put;
	file = file_of(mapping, t->slot);
	if (file)
		file->spec_added += put;
}

/* A folio enters the cache: a miss within the demand, a guess in the rest of the window, else a
 * write or advice. */
static __always_inline void on_add(struct folio *folio)
{
	struct task *t = task_state(false);
	u64 mapping, first, last, from, to, now;
	struct ka_counters *c;

	if (!t || (t->kind == DEMAND_NONE && t->window == WINDOW_NONE))
		return;
	mapping = folio_mapping(folio);
	if (mapping != t->mapping || t->window == WINDOW_ADVICE)
		return;
	first = folio_index(folio);
	last = first + (1ULL << folio_order(folio)) - 1;
	if (t->window == WINDOW_NONE && (first >= t->end || last < t->start))
		return;
	if (t->window == WINDOW_READAHEAD && (first >= t->window_end || last < t->window_start) &&
	    (first >= t->end || last < t->start))
		return;
	c = counters_of(t->slot);
	if (!c)
		return;
	c->events++;
	from = first > t->start ? first : t->start;
	to = last + 1 < t->end ? last + 1 : t->end;
	now = bpf_ktime_get_ns();
	/* Without a window: the page of a fault that must not read ahead. */
	if (t->filling || from < to)
		count_fill(t, c, now);
	t->filling = 1;
	t->step = now;
	if (t->kind == DEMAND_FAULT) /* no work of the program's */
		t->mmap_last = now;
	if (from >= to) {
		count_guess(t, c, mapping, first, last);
		return;
	}
	count_miss(t, c, mapping, to - from);
	if (from > first)
		count_guess(t, c, mapping, first, from - 1);
	count_guess(t, c, mapping, to, last);
}

/* A folio leaves the cache. Reclaim marks its task; truncation, invalidation and drop_caches do
 * not. */
static __always_inline void on_delete(struct folio *folio)
{
	u64 mapping = folio_mapping(folio), first = folio_index(folio), gone;
	struct task_struct *task = (void *)bpf_get_current_task();
	struct ka_counters *c;
	struct ka_file *file;
	u32 slot;

	gone = take_pages(mapping, first, first + (1ULL << folio_order(folio)) - 1);
	if (!gone)
		return;
	slot = slot_of_mapping(mapping);
	c = counters_of(slot);
	if (!c)
		return;
	c->events++;
	if (!BPF_CORE_READ(task, reclaim_state)) {
		c->spec_dropped += gone;
		return;
	}
	c->spec_evicted += gone;
	file = file_of(mapping, slot);
	if (file)
		file->spec_evicted += gone;
}

#endif
