// SPDX-License-Identifier: GPL-2.0-only
//! Where the kernel is listened to. Each hook has programs of several kinds; user space
//! (`tuner/sensor/attach.rs`) loads the first that this kernel offers. Program names are HOOK__HOW:
//! user space takes both from there.

#include "fallback.bpf.h"
#include "wait.bpf.h"

char LICENSE[] SEC("license")
= "GPL";

struct inode___map {
	struct address_space *i_mapping;
} __attribute__((preserve_access_index));

static __always_inline u64 mapping_of(struct inode *inode)
{
	struct inode___map *i = (void *)inode;

	return (u64)BPF_CORE_READ(i, i_mapping);
}

SEC("tp_btf/page_cache_sync_ra")
int BPF_PROG(sync_ra__tp_btf, struct inode *inode, unsigned long index, struct file_ra_state *ra,
	     unsigned long req)
{
	on_sync_ra(inode, mapping_of(inode), index, ra, req);
	return 0;
}

SEC("tp_btf/page_cache_async_ra")
int BPF_PROG(async_ra__tp_btf, struct inode *inode, unsigned long index, struct file_ra_state *ra,
	     unsigned long req)
{
	on_async_ra(inode, mapping_of(inode), ra);
	return 0;
}

SEC("tp_btf/page_cache_ra_order")
int BPF_PROG(ra_order__tp_btf, struct inode *inode, unsigned long index, struct file_ra_state *ra)
{
	on_ra_order(inode, mapping_of(inode), index, ra);
	return 0;
}

SEC("tp_btf/page_cache_ra_unbounded")
int BPF_PROG(ra_unbounded__tp_btf, struct inode *inode, unsigned long index, unsigned long nr,
	     unsigned long lookahead)
{
	on_ra_unbounded(inode, mapping_of(inode), index, nr);
	return 0;
}

SEC("tp_btf/mm_filemap_get_pages")
int BPF_PROG(read__tp_btf, struct address_space *mapping, unsigned long index, unsigned long last)
{
	u64 end = last;

	if (last != index) { /* a request may reach beyond the end of the file */
		u64 eof = (u64)(mapping->host->i_size - 1) >> 12;

		if (end > eof)
			end = eof > index ? eof : index;
	}
	on_read(mapping, index, end, last);
	return 0;
}

SEC("tp_btf/mm_filemap_fault")
int BPF_PROG(fault__tp_btf, struct address_space *mapping, unsigned long index)
{
	on_mmap(mapping_of(mapping->host), index, index, true);
	return 0;
}

SEC("tp_btf/mm_filemap_map_pages")
int BPF_PROG(map_pages__tp_btf, struct address_space *mapping, unsigned long start,
	     unsigned long end)
{
	on_mmap(mapping_of(mapping->host), start, end, false);
	return 0;
}

SEC("tp_btf/mm_filemap_add_to_page_cache")
int BPF_PROG(add__tp_btf, struct folio *folio)
{
	on_add(folio);
	return 0;
}

SEC("tp_btf/mm_filemap_delete_from_page_cache")
int BPF_PROG(delete__tp_btf, struct folio *folio)
{
	on_delete(folio);
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(wait__tp_btf, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	/* Two bits decide for nearly every switch: nobody here waits for I/O. */
	if (BPF_CORE_READ_BITFIELD(prev, in_iowait) && !preempt)
		on_sleep(prev);
	if (BPF_CORE_READ_BITFIELD(next, in_iowait))
		on_wake(next);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(device__tp_btf, struct request *rq, int error, unsigned int bytes)
{
	on_rq_complete(rq, bytes);
	return 0;
}
