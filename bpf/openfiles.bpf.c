// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lists the open files of the wanted bdis: iter/task_file, Linux 5.8 and later.
 *
 * file->f_ra.ra_pages is copied from the bdi at open(2) and never again, so a change of
 * read_ahead_kb reaches none of the files that are already open. This iterator shows which files
 * carry which value; user space decides which of them to refresh.
 */
#include "openfiles.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define BDEVFS_MAGIC 0x62646576
#define MODE_TYPE    0170000
#define MODE_REGULAR 0100000
#define MODE_BLOCK   0060000
#define FMODE_READ   0x1

struct ka_bdi_name {
	char name[KA_BDI_NAME];
};

/* The bdis to list, by name: far more than a machine has. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, 1); /* BPF_F_NO_PREALLOC: a handful of entries in most machines */
	__type(key, struct ka_bdi_name);
	__type(value, __u32);
} wanted SEC(".maps");

/* Pages of a raw block device belong to bdevfs' superblock, whose s_bdi is not the disk's: go
 * through the block device. */
static struct backing_dev_info *bdi_of(struct inode *inode)
{
	struct super_block *sb = BPF_CORE_READ(inode, i_sb);
	struct bdev_inode *bdev_inode;
	struct gendisk *disk;

	if (BPF_CORE_READ(sb, s_magic) != BDEVFS_MAGIC)
		return BPF_CORE_READ(sb, s_bdi);
	bdev_inode = (void *)inode - bpf_core_field_offset(struct bdev_inode, vfs_inode);
	disk = BPF_CORE_READ(bdev_inode, bdev.bd_disk);
	if (bpf_core_field_exists(disk->bdi))
		return BPF_CORE_READ(disk, bdi);
	return BPF_CORE_READ((struct gendisk___old *)disk, queue, backing_dev_info);
}

SEC("iter/task_file")
int open_files(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct ka_open_file row = {};
	struct ka_bdi_name name = {};
	struct backing_dev_info *bdi;
	struct inode *inode, *named;
	__u16 type;

	/* Threads share one table of descriptors: the leader's row stands for all. */
	if (!task || !file || task->pid != task->tgid)
		return 0;
	/* What cannot be read never reads ahead. */
	row.f_mode = BPF_CORE_READ(file, f_mode);
	if (!(row.f_mode & FMODE_READ))
		return 0;
	named = BPF_CORE_READ(file, f_inode);
	type = BPF_CORE_READ(named, i_mode) & MODE_TYPE;
	if (type != MODE_REGULAR && type != MODE_BLOCK)
		return 0;
	inode = BPF_CORE_READ(file, f_mapping, host);
	bdi = bdi_of(inode);
	if (!bdi)
		return 0;
	bpf_probe_read_kernel_str(name.name, sizeof(name.name), &bdi->dev_name);
	if (!bpf_map_lookup_elem(&wanted, &name))
		return 0;

	row.file = (__u64)file;
	row.inode = (__u64)inode;
	row.ino = BPF_CORE_READ(named, i_ino);
	row.dev = BPF_CORE_READ(named, i_sb, s_dev);
	row.tgid = task->tgid;
	row.fd = ctx->fd;
	/* f_ra shares a union with the task work of a file being freed: the verifier refuses a
	 * direct load. */
	row.ra_pages = BPF_CORE_READ(file, f_ra.ra_pages);
	row.bdi_ra_pages = BPF_CORE_READ(bdi, ra_pages);
	row.uid = BPF_CORE_READ(task, cred, euid.val);
	bpf_probe_read_kernel_str(row.comm, sizeof(row.comm), &task->comm);
	__builtin_memcpy(row.bdi, name.name, sizeof(row.bdi));
	bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
	return 0;
}

char LICENSE[] SEC("license")
= "GPL";
