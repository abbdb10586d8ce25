/* SPDX-License-Identifier: GPL-2.0-only */
//! The same hooks for kernels without the young tracepoints (readahead:* before 6.18, get_pages,
//! fault, map_pages before 6.12): by fentry and fexit on the functions themselves, and by kprobe
//! and kretprobe where there is no trampoline (arm64 before 6.0) or a policy refuses it. Argument
//! lists changed; CO-RE tells which kernel this is, and the verifier never looks at the branch not
//! taken, so arguments are read by number.
#ifndef KEEPAHEAD_FALLBACK_H
#define KEEPAHEAD_FALLBACK_H

#include "demand.bpf.h"

/* ractl->ra came with 5.13; before, the state was an argument of its own, after ractl. */
#define HAS_RACTL_RA bpf_core_field_exists(((struct readahead_control *)0)->ra)

/* A function's arguments by number: fentry finds them in its context, kprobe in registers. */
#define ON_ENTRY(hook, function)                                                                   \
	SEC("fentry/" #function)                                                                   \
	int hook##__fentry(u64 *ctx)                                                               \
	{                                                                                          \
		hook##_called(ctx);                                                                \
		return 0;                                                                          \
	}                                                                                          \
	SEC("kprobe/" #function)                                                                   \
	int hook##__kprobe(struct pt_regs *regs)                                                   \
	{                                                                                          \
		u64 args[] = {PT_REGS_PARM1(regs), PT_REGS_PARM2(regs), PT_REGS_PARM3(regs)};      \
		hook##_called(args);                                                               \
		return 0;                                                                          \
	}

static __always_inline struct inode *ractl_inode(struct readahead_control *ractl)
{
	return BPF_CORE_READ(ractl, mapping, host);
}

static __always_inline void sync_ra_called(u64 *args)
{
	struct readahead_control *ractl = (void *)args[0];
	u64 mapping = (u64)BPF_CORE_READ(ractl, mapping), index = BPF_CORE_READ(ractl, _index);

	if (HAS_RACTL_RA)
		on_sync_ra(ractl_inode(ractl), mapping, index, BPF_CORE_READ(ractl, ra), args[1]);
	else
		on_sync_ra(ractl_inode(ractl), mapping, index, (void *)args[1], args[2]);
}
ON_ENTRY(sync_ra, page_cache_sync_ra)

static __always_inline void async_ra_called(u64 *args)
{
	struct readahead_control *ractl = (void *)args[0];
	u64 mapping = (u64)BPF_CORE_READ(ractl, mapping);

	if (HAS_RACTL_RA)
		on_async_ra(ractl_inode(ractl), mapping, BPF_CORE_READ(ractl, ra));
	else
		on_async_ra(ractl_inode(ractl), mapping, (void *)args[1]);
}
ON_ENTRY(async_ra, page_cache_async_ra)

static __always_inline void ra_order_called(u64 *args)
{
	struct readahead_control *ractl = (void *)args[0];

	on_ra_order(ractl_inode(ractl), (u64)BPF_CORE_READ(ractl, mapping),
		    BPF_CORE_READ(ractl, _index), (void *)args[1]);
}
ON_ENTRY(ra_order, page_cache_ra_order)

static __always_inline void ra_unbounded_called(u64 *args)
{
	struct readahead_control *ractl = (void *)args[0];

	on_ra_unbounded(ractl_inode(ractl), (u64)BPF_CORE_READ(ractl, mapping),
			BPF_CORE_READ(ractl, _index), args[1]);
}
ON_ENTRY(ra_unbounded, page_cache_ra_unbounded)

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

/* A kretprobe sees no arguments, so the entry leaves them with the task. ki_pos moves by what is
 * copied. A return that the kernel missed (its kretprobe has no instance left) is a read not
 * counted: the next entry overwrites it. */
static __always_inline void read_called(struct pt_regs *regs)
{
	struct kiocb *iocb = (void *)PT_REGS_PARM1(regs);
	struct task *t = task_state(true);

	if (!t)
		return;
	t->read_iocb = (u64)iocb;
	t->read_from = BPF_CORE_READ(iocb, ki_pos);
}

static __always_inline void read_returned(void)
{
	struct task *t = task_state(false);
	struct kiocb *iocb;

	if (!t || !t->read_iocb)
		return;
	iocb = (void *)t->read_iocb;
	t->read_iocb = 0;
	on_read_return(iocb, 0, BPF_CORE_READ(iocb, ki_pos) - t->read_from);
}

#define ON_READ(suffix, function)                                                                  \
	SEC("kprobe/" #function)                                                                   \
	int read__kprobe##suffix(struct pt_regs *regs)                                             \
	{                                                                                          \
		read_called(regs);                                                                 \
		return 0;                                                                          \
	}                                                                                          \
	SEC("kretprobe/" #function)                                                                \
	int read__kretprobe##suffix(void *regs)                                                    \
	{                                                                                          \
		read_returned();                                                                   \
		return 0;                                                                          \
	}
ON_READ(, filemap_read)
ON_READ(_old, generic_file_buffered_read)

static __always_inline void fault_called(u64 *args)
{
	struct vm_fault *vmf = (void *)args[0];
	u64 index = BPF_CORE_READ(vmf, pgoff);

	on_mmap((u64)BPF_CORE_READ(vmf, vma, vm_file, f_mapping), index, index, true);
}
ON_ENTRY(fault, filemap_fault)

/* Fires whether or not anything was there to map, unlike the tracepoint. */
static __always_inline void map_pages_called(u64 *args)
{
	struct vm_fault *vmf = (void *)args[0];

	on_mmap((u64)BPF_CORE_READ(vmf, vma, vm_file, f_mapping), args[1], args[2], false);
}
ON_ENTRY(map_pages, filemap_map_pages)

#endif
