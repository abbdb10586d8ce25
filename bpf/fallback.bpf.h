/* SPDX-License-Identifier: GPL-2.0-only */
//! The same hooks for kernels without the young tracepoints (readahead:* before 6.18, get_pages,
//! fault, map_pages before 6.12): by fentry and fexit on the functions themselves. Argument lists
//! changed; CO-RE tells which kernel this is, and the verifier never looks at the branch not taken,
//! so arguments are read by number.
#ifndef KEEPAHEAD_FALLBACK_H
#define KEEPAHEAD_FALLBACK_H

#include "demand.bpf.h"

/* ractl->ra came with 5.13; before, the state was an argument of its own, after ractl. */
#define HAS_RACTL_RA bpf_core_field_exists(((struct readahead_control *)0)->ra)

static __always_inline struct inode *ractl_inode(struct readahead_control *ractl)
{
	return BPF_CORE_READ(ractl, mapping, host);
}

SEC("fentry/page_cache_sync_ra")
int sync_ra__fentry(u64 *ctx)
{
	struct readahead_control *ractl = (void *)ctx[0];
	u64 mapping = (u64)BPF_CORE_READ(ractl, mapping), index = BPF_CORE_READ(ractl, _index);

	if (HAS_RACTL_RA)
		on_sync_ra(ractl_inode(ractl), mapping, index, BPF_CORE_READ(ractl, ra), ctx[1]);
	else
		on_sync_ra(ractl_inode(ractl), mapping, index, (void *)ctx[1], ctx[2]);
	return 0;
}

SEC("fentry/page_cache_async_ra")
int async_ra__fentry(u64 *ctx)
{
	struct readahead_control *ractl = (void *)ctx[0];
	u64 mapping = (u64)BPF_CORE_READ(ractl, mapping);

	if (HAS_RACTL_RA)
		on_async_ra(ractl_inode(ractl), mapping, BPF_CORE_READ(ractl, ra));
	else
		on_async_ra(ractl_inode(ractl), mapping, (void *)ctx[1]);
	return 0;
}

SEC("fentry/page_cache_ra_order")
int ra_order__fentry(u64 *ctx)
{
	struct readahead_control *ractl = (void *)ctx[0];

	on_ra_order(ractl_inode(ractl), (u64)BPF_CORE_READ(ractl, mapping),
		    BPF_CORE_READ(ractl, _index), (void *)ctx[1]);
	return 0;
}

SEC("fentry/page_cache_ra_unbounded")
int ra_unbounded__fentry(u64 *ctx)
{
	struct readahead_control *ractl = (void *)ctx[0];

	on_ra_unbounded(ractl_inode(ractl), (u64)BPF_CORE_READ(ractl, mapping),
			BPF_CORE_READ(ractl, _index), ctx[1]);
	return 0;
}

/* A read is over: ki_pos has moved past what was copied. The third argument is what was copied
 * before this call. */
static __always_inline void on_read_return(struct kiocb *iocb, s64 before, s64 copied)
{
	u64 mapping, end, start;

	if (copied <= before)
		return;
	mapping = (u64)BPF_CORE_READ(iocb, ki_filp, f_mapping);
	end = BPF_CORE_READ(iocb, ki_pos);
	start = end - (copied - before);
	on_read((void *)mapping, start >> 12, (end - 1) >> 12, (end - 1) >> 12);
}

SEC("fexit/filemap_read")
int read__fexit(u64 *ctx)
{
	on_read_return((void *)ctx[0], (s64)ctx[2], (s64)ctx[3]);
	return 0;
}

SEC("fexit/generic_file_buffered_read")
int read__fexit_old(u64 *ctx)
{
	on_read_return((void *)ctx[0], (s64)ctx[2], (s64)ctx[3]);
	return 0;
}

SEC("fentry/filemap_fault")
int fault__fentry(u64 *ctx)
{
	struct vm_fault *vmf = (void *)ctx[0];
	u64 index = BPF_CORE_READ(vmf, pgoff);

	on_mmap((u64)BPF_CORE_READ(vmf, vma, vm_file, f_mapping), index, index, true);
	return 0;
}

/* Fires whether or not anything was there to map, unlike the tracepoint. */
SEC("fentry/filemap_map_pages")
int map_pages__fentry(u64 *ctx)
{
	struct vm_fault *vmf = (void *)ctx[0];

	on_mmap((u64)BPF_CORE_READ(vmf, vma, vm_file, f_mapping), ctx[1], ctx[2], false);
	return 0;
}

#endif
