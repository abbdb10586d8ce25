/* SPDX-License-Identifier: GPL-2.0-only */
//! The range of bytes that the current system call reads, where its registers tell. Uses
//! `page_shift` of the object that includes it.
#ifndef KEEPAHEAD_SYSCALL_H
#define KEEPAHEAD_SYSCALL_H

#if defined(__TARGET_ARCH_x86)
#define SYSCALL_READ	0
#define SYSCALL_PREAD64 17
/* MAX_RW_COUNT */
#define RW_MAX		0x7ffff000ULL

static __always_inline struct file *file_at(struct task_struct *current, u64 fd)
{
	struct fdtable *table = BPF_CORE_READ(current, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd), *file = 0;

	if (fd < BPF_CORE_READ(table, max_fds))
		bpf_probe_read_kernel(&file, sizeof(file), &files[fd]);
	return file;
}

/* The bytes that read(2) or pread(2) asks for, from the caller's registers: the event knows pages
 * only, and of a request whose first pages were followed by one still being read it comes late
 * (each batch that ends at such a folio has no event). Believed only where descriptor and last page
 * are those of the event. */
static __noinline bool syscall_range(u64 mapping, u64 index, u64 last, u64 *offset, u64 *bytes)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct pt_regs regs;
	struct file *file;
	u64 from, count;

	if (!offset || !bytes)
		return false;
	if (bpf_probe_read_kernel(&regs, sizeof(regs), (void *)bpf_task_pt_regs(current)))
		return false;
	if (regs.orig_rax != SYSCALL_READ && regs.orig_rax != SYSCALL_PREAD64)
		return false;
	file = file_at(current, (u32)regs.rdi);
	if (!file || (u64)BPF_CORE_READ(file, f_mapping) != mapping)
		return false;
	from = regs.orig_rax == SYSCALL_READ ? (u64)BPF_CORE_READ(file, f_pos) : regs.r10;
	count = regs.rdx < RW_MAX ? regs.rdx : RW_MAX;
	if (!count || from >> page_shift > index || (from + count - 1) >> page_shift != last)
		return false;
	*offset = from;
	*bytes = count;
	return true;
}
#else
static __always_inline bool syscall_range(u64 mapping, u64 index, u64 last, u64 *offset, u64 *bytes)
{
	return false;
}
#endif

#endif
