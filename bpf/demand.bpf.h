/* SPDX-License-Identifier: GPL-2.0-only */
//! Demand: requests of read(2), splice and sendfile, and faults on file mappings.
#ifndef KEEPAHEAD_DEMAND_H
#define KEEPAHEAD_DEMAND_H

#include "readahead.bpf.h"

/* Reach of fault-around (fault_around_bytes, 64 KiB by default), pages. */
#define FAULT_AROUND  16
/* Pages of a batch: 31 folios, mostly of a few pages each. */
#define BATCH_PAGES   512
/* A preemption must not look like work: gaps of programs that fault often are far below this. */
#define THINK_MAX_NS  250000
/* Of each gap the kernel itself takes so much to answer a fault (0.5 to 1 us): a smaller window has
 * more of them for the same work. */
#define FAULT_COST_NS 1000

static __always_inline u64 distance(u64 a, u64 b)
{
	return a > b ? a - b : b - a;
}

struct run {
	u64 ended; /* pages of the run that this request ends, 0: none */
	u64 jump;
	bool continues;
	bool turns; /* to another file than the task's last request */
};

static __always_inline void read_run(struct stream *s, u64 mapping, u64 index, u64 last,
				     struct run *run)
{
	u64 pages = last - index + 1;
	u32 at = index, epoch = own_epoch;

	if (s->mapping != mapping || s->end != epoch) {
		s->end = epoch;
		s->slot = slot_of_mapping(mapping);
	}
	if (s->mapping == mapping && (at == s->next || at + 1 == s->next)) {
		run->continues = true;
		s->run += at == s->next ? pages : pages - 1;
	} else {
		if (s->mapping == mapping) {
			run->ended = s->run;
			run->jump = distance(at, s->next);
		}
		s->mapping = mapping;
		s->run = pages;
	}
	s->next = last + 1;
}

static __noinline void count_request(u32 slot, u64 pages, struct run *run, u64 weight)
{
	struct ka_counters *c = counters_of(slot);

	if (!c || !run)
		return;
	c->events += weight;
	c->read_requests += weight;
	c->read_pages += pages * weight;
	c->read_turns += run->turns ? weight : 0;
	hist_add(c->request_hist, pages, weight);
	if (run->continues) {
		c->seq_requests += weight;
	} else if (run->ended) {
		hist_add(c->read_run_hist, run->ended, weight);
		hist_add(c->jump_hist, run->jump, weight);
	}
}

/* In the sample of the request that takes its place. */
static __always_inline void count_cut_read(struct stream *s, u64 mapping, u64 hash)
{
	u32 run = cut_run(s, mapping, s->next);
	struct ka_counters *c;
	u64 shift;

	if (!run || s->end != (u32)own_epoch)
		return;
	shift = demand_shifts[s->slot & (KA_MAX_SLOTS - 1)] & 63;
	if (!hash_in_sample(hash, shift))
		return;
	c = counters_of(s->slot);
	if (!c)
		return;
	c->read_cuts += 1ULL << shift;
	c->read_cut_pages += (u64)run << shift;
}

/* The reader slept for a page that was on its way: seen at switch-in, its mapping known only now.
 */
static __noinline void count_late(struct task *t, u64 mapping, u64 spec)
{
	u32 slot = slot_of_mapping(mapping);
	struct ka_counters *c = counters_of(slot);
	struct ka_file *file;

	if (!c || !t)
		return;
	c->read_late += t->pending_count;
	c->read_stall_ns += t->pending_ns;
	hist_add(c->stall_hist, t->pending_ns / 1000, 1);
	if (spec) /* one page a wait, at the weight of the sample */
		c->spec_used_late += (u64)t->pending_count << shift_of(sample_word);
	file = file_of(mapping, slot);
	if (file) {
		file->late += t->pending_count;
		file->stall_ns += t->pending_ns;
	}
}

static __noinline void count_used(u64 mapping, u64 used)
{
	u32 slot = slot_of_mapping(mapping);
	struct ka_counters *c = counters_of(slot);
	struct ka_file *file = c ? file_of(mapping, slot) : 0;

	if (c)
		c->spec_used += used;
	if (file)
		file->spec_used += used;
}

static __noinline void count_read_file(u64 mapping, u32 slot, u64 pages)
{
	struct ka_file *file = slot == NO_SLOT ? 0 : file_of(mapping, slot);

	if (!file)
		return;
	file->read_pages += pages;
	file_user(file);
}

/* A batch that ends before a folio still being read has no event of its own; the next one follows
 * the wait for that folio. So a request that goes on a little beyond the last one, after a wait,
 * began where that one ended. */
static __always_inline u64 request_start(struct stream *s, u64 mapping, u64 index)
{
	u32 beyond = (u32)index - s->next;

	return s->mapping == mapping && beyond < BATCH_PAGES ? index - beyond : index;
}

/* Pages index..=last are up to date and about to be copied. Fires for each batch, always up to the
 * end of the whole request. This is the hit path: a request out of the sample costs the task's
 * state, a hash and the stream. */
static __always_inline void on_read(void *mapping_arg, u64 index, u64 last, u64 event_last)
{
	struct task *t = task_state(true);
	u64 sample = sample_word, used = 0, mapping, hash, shift;
	struct run run = {};
	struct stream *s;
	bool continuation;

	if (!t)
		return;
	/* The verifier forbids arithmetic on an argument that is a kernel pointer; one that went
	 * through a map is a number. */
	*(volatile u64 *)&t->argument = (u64)mapping_arg;
	mapping = *(volatile u64 *)&t->argument;
	continuation = t->request_mapping == mapping && t->request_last == event_last &&
		       index > t->request_index;
	run.turns = t->request_mapping && t->request_mapping != mapping;
	t->request_mapping = mapping;
	t->request_index = index;
	t->request_last = event_last;
	t->kind = DEMAND_NONE;
	t->window = WINDOW_NONE;
	t->filling = 0;
	hash = sample_hash(mapping, index >> 6);
	s = stream_of(t->read, mapping);
	if (!continuation && t->pending_ns)
		index = request_start(s, mapping, index);
	if (!continuation) {
		count_cut_read(s, mapping, hash);
		read_run(s, mapping, index, last, &run);
	}
	if (hash_in_sample(hash, shift_of(sample)) || last >> 6 != index >> 6) {
		health.sampled++;
		used = take_pages(mapping, index, last);
	}
	if (used)
		count_used(mapping, used);
	if (t->pending_ns) {
		count_late(t, mapping, used);
		t->pending_ns = t->pending_count = 0;
	}
	if (continuation || s->mapping != mapping || s->slot >= KA_MAX_SLOTS)
		return;
	shift = demand_shifts[s->slot & (KA_MAX_SLOTS - 1)] & 63;
	if (!hash_in_sample(hash, shift))
		return;
	count_request(s->slot, last - index + 1, &run, 1ULL << shift);
	count_read_file(mapping, s->slot, (last - index + 1) << shift);
}

/* Whether a fault at `to` continues a run whose last fault was at `from`: within fault-around, or
 * right beyond the folio there. A fault on a large folio maps all of it (6.18: at 128 KiB of
 * readahead a sequential reader faults only every 32 pages). */
static __always_inline bool within_reach(u64 mapping, u64 from, u64 to)
{
	u64 first, pages;

	if (distance(from, to) <= FAULT_AROUND)
		return true;
	if (distance(from, to) > LARGE_FOLIO_PAGES || !folio_at(mapping, from, &first, &pages))
		return false;
	return to > from ? to <= first + pages : to + FAULT_AROUND >= first;
}

static __always_inline void count_cut_mmap(struct stream *s, u64 mapping)
{
	u32 run = cut_run(s, mapping, (u64)s->end + FAULT_AROUND);
	struct ka_counters *c = run ? counters_of(s->slot) : 0;

	if (!c)
		return;
	c->mmap_cuts++;
	c->mmap_cut_pages += run;
}

/* A visible fault: all events of one task on one page or on the fault-around window that holds it.
 */
static __always_inline void on_mmap(u64 mapping, u64 first, u64 last, bool is_fault)
{
	u32 slot = slot_of_mapping(mapping);
	u64 now, used, own, next, pages = 1, run_of = mapping;
	struct ka_counters *c;
	struct ka_file *file;
	struct stream *s;
	struct task *t;

	if (is_own(slot)) {
		u32 part = slot_of_part(mapping, first, slot);

		/* Runs in a region are not interrupted by faults in another one. */
		run_of += part == slot ? 0 : ((u64)part << 6) + 1;
		slot = part;
	}
	c = counters_of(slot);
	if (!c)
		return;
	t = task_state(true);
	if (!t)
		return;
	now = bpf_ktime_get_ns();
	health.sampled++;
	t->window = WINDOW_NONE;
	t->marker = 0;
	t->filling = 0;
	s = stream_of(t->mmap, run_of);
	next = near(first, s->next);
	own = used = take_pages(mapping, first, first);
	/* Also within one visible fault: a window of 32 KiB leaves pages out around the one that it
	 * was read for, and the work between those that are touched is as much as elsewhere. */
	if (t->mmap_last && now - t->mmap_last > FAULT_COST_NS) {
		u64 gap = now - t->mmap_last;

		c->mmap_think_ns += (gap < THINK_MAX_NS ? gap : THINK_MAX_NS) - FAULT_COST_NS;
	}
	if (s->mapping == run_of && first <= near(first, s->end) && last >= next) {
		/* the same visible fault, seen again */
		t->kind = DEMAND_NONE;
		pages = 0;
	} else {
		/* A file that has got counters of its own since begins a run there. */
		bool known = s->mapping == run_of && s->slot == slot;

		c->faults++;
		c->events++;
		c->mmap_turns += t->fault_of && t->fault_of != run_of;
		t->fault_of = run_of;
		if (known && within_reach(mapping, next, first)) {
			pages = distance(first, next);
			c->seq_faults++;
			used += first > next ? take_pages(mapping, next + 1, first)
					     : take_pages(mapping, first, next - 1);
			s->run += pages;
		} else {
			if (known) {
				hist_add(c->mmap_run_hist, s->run, 1);
				hist_add(c->jump_hist, distance(first, next), 1);
			} else {
				count_cut_mmap(s, run_of);
			}
			s->mapping = run_of;
			s->slot = slot;
			s->run = 1;
		}
		c->mmap_pages += pages;
		t->late = 0;
		t->missed = 0;
		t->kind = DEMAND_NONE;
	}
	s->next = first;
	s->end = last;
	c->spec_used += used;
	if (is_fault) {
		t->kind = DEMAND_FAULT;
		t->mapping = mapping;
		t->start = first;
		t->end = first + 1;
		t->slot = slot;
		t->step = now;
		t->pages_late = own;
	}
	t->mmap_last = now;
	file = file_of(mapping, slot);
	if (!file)
		return;
	file->mmap_pages += pages;
	file->spec_used += used;
	if (pages)
		file_user(file);
}

#endif
