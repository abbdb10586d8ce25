// SPDX-License-Identifier: GPL-2.0-only
//! Streams every readahead and page cache event of one file system, in the order in which they
//! happen: what `keepahead sim validate` compares the simulator with. The tracepoints of Linux 6.18
//! carry all of it, those of 6.12 faults and folios, older ones folios alone; what a kernel has not
//! is not loaded. Not for production: the sensor counts instead.

#include "events.h"
#include "folio.bpf.h"

char LICENSE[] SEC("license")
= "GPL";

/* The superblock's device number, as the kernel writes it: major << 20 | minor. */
const volatile u32 device;

/* A read of 4 MiB adds 1,024 folios of 64 bytes each; user space empties this after each call. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} events SEC(".maps");

/* Events that found the buffer full. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} lost SEC(".maps");

static __always_inline struct ka_event *record(struct inode *inode, u32 kind, u64 index)
{
	struct ka_event *e;
	u32 zero = 0;
	u64 *count;

	if (BPF_CORE_READ(inode, i_sb, s_dev) != device)
		return NULL;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count = bpf_map_lookup_elem(&lost, &zero);
		if (count)
			__sync_fetch_and_add(count, 1);
		return NULL;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->kind = kind;
	e->tgid = bpf_get_current_pid_tgid() >> 32;
	e->ino = BPF_CORE_READ(inode, i_ino);
	e->index = index;
	return e;
}

static __always_inline void copy_state(struct ka_event *e, struct file_ra_state *ra)
{
	e->start = BPF_CORE_READ(ra, start);
	e->size = BPF_CORE_READ(ra, size);
	e->async_size = BPF_CORE_READ(ra, async_size);
	e->ra_pages = BPF_CORE_READ(ra, ra_pages);
	e->order = BPF_CORE_READ(ra, order);
	e->mmap_miss = BPF_CORE_READ(ra, mmap_miss);
	e->prev_pos = BPF_CORE_READ(ra, prev_pos);
}

static __always_inline void on_window(struct inode *inode, u32 kind, u64 index,
				      struct file_ra_state *ra, u64 count)
{
	struct ka_event *e = record(inode, kind, index);

	if (!e)
		return;
	copy_state(e, ra);
	e->count = count;
	bpf_ringbuf_submit(e, 0);
}

static __always_inline void on_range(struct inode *inode, u32 kind, u64 index, u64 count, u64 start)
{
	struct ka_event *e = record(inode, kind, index);

	if (!e)
		return;
	e->count = count;
	e->start = start;
	bpf_ringbuf_submit(e, 0);
}

static __always_inline void on_folio(struct folio *folio, u32 kind)
{
	struct address_space *mapping = (struct address_space *)folio_mapping(folio);
	struct ka_event *e = record(BPF_CORE_READ(mapping, host), kind, folio_index(folio));

	if (!e)
		return;
	e->order = folio_order(folio);
	bpf_ringbuf_submit(e, 0);
}

SEC("tp_btf/page_cache_sync_ra")
int BPF_PROG(sync_ra, struct inode *inode, unsigned long index, struct file_ra_state *ra,
	     unsigned long req)
{
	on_window(inode, KA_SYNC_RA, index, ra, req);
	return 0;
}

SEC("tp_btf/page_cache_async_ra")
int BPF_PROG(async_ra, struct inode *inode, unsigned long index, struct file_ra_state *ra,
	     unsigned long req)
{
	on_window(inode, KA_ASYNC_RA, index, ra, req);
	return 0;
}

SEC("tp_btf/page_cache_ra_order")
int BPF_PROG(ra_order, struct inode *inode, unsigned long index, struct file_ra_state *ra)
{
	on_window(inode, KA_RA_ORDER, index, ra, 0);
	return 0;
}

SEC("tp_btf/page_cache_ra_unbounded")
int BPF_PROG(ra_unbounded, struct inode *inode, unsigned long index, unsigned long nr,
	     unsigned long lookahead)
{
	on_range(inode, KA_RA_UNBOUNDED, index, nr, lookahead);
	return 0;
}

SEC("tp_btf/mm_filemap_add_to_page_cache")
int BPF_PROG(add, struct folio *folio)
{
	on_folio(folio, KA_ADD);
	return 0;
}

SEC("tp_btf/mm_filemap_delete_from_page_cache")
int BPF_PROG(delete, struct folio *folio)
{
	on_folio(folio, KA_DELETE);
	return 0;
}

SEC("tp_btf/mm_filemap_fault")
int BPF_PROG(fault, struct address_space *mapping, unsigned long index)
{
	on_range(BPF_CORE_READ(mapping, host), KA_FAULT, index, 0, 0);
	return 0;
}

SEC("tp_btf/mm_filemap_map_pages")
int BPF_PROG(map_pages, struct address_space *mapping, unsigned long first, unsigned long last)
{
	on_range(BPF_CORE_READ(mapping, host), KA_MAP_PAGES, first, last, 0);
	return 0;
}
