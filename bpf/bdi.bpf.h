/* SPDX-License-Identifier: GPL-2.0-only */
//! Which bdi a file's pages belong to, on every kernel since 5.8.
#ifndef KEEPAHEAD_BDI_H
#define KEEPAHEAD_BDI_H

#include "kernel.h"

static __always_inline struct backing_dev_info *bdi_of_disk(struct gendisk *disk)
{
	if (bpf_core_field_exists(disk->bdi))
		return BPF_CORE_READ(disk, bdi);
	struct request_queue___before_5_15 *q = (void *)BPF_CORE_READ(disk, queue);
	return BPF_CORE_READ(q, backing_dev_info);
}

/* Pages of a raw block device hang off bdevfs, whose own bdi is the noop one: theirs is the disk's.
 */
#define BDEVFS_MAGIC 0x62646576

static __always_inline struct backing_dev_info *bdi_of_inode(struct inode *inode)
{
	struct super_block *sb = BPF_CORE_READ(inode, i_sb);
	struct backing_dev_info *bdi = BPF_CORE_READ(sb, s_bdi);

	if (BPF_CORE_READ(sb, s_magic) == BDEVFS_MAGIC) {
		struct bdev_inode *bdev =
			(void *)inode - bpf_core_field_offset(struct bdev_inode, vfs_inode);

		bdi = bdi_of_disk(BPF_CORE_READ(bdev, bdev.bd_disk));
	}
	return bdi;
}

#endif
