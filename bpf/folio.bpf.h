/* SPDX-License-Identifier: GPL-2.0-only */
//! What a folio (before 5.17: a page) is, wherever this kernel keeps it.
#ifndef KEEPAHEAD_FOLIO_H
#define KEEPAHEAD_FOLIO_H

#include "kernel.h"

static __always_inline u64 folio_flags(struct folio *folio)
{
	struct folio___before_6_18 *plain = (void *)folio;
	struct page___before_5_17 *page = (void *)folio;

	if (bpf_core_field_exists(folio->flags.f))
		return BPF_CORE_READ(folio, flags.f);
	if (bpf_core_field_exists(plain->flags))
		return BPF_CORE_READ(plain, flags);
	return BPF_CORE_READ(page, flags);
}

static __always_inline u32 folio_order(struct folio *folio)
{
	struct folio___before_6_6 *byte = (void *)folio;
	struct page___before_5_17 *second;
	u64 flags = folio_flags(folio);

	if (!(flags >> bpf_core_enum_value(enum pageflags, PG_head) & 1))
		return 0;
	if (bpf_core_field_exists(byte->_folio_order))
		return BPF_CORE_READ(byte, _folio_order) & 31;
	if (bpf_core_field_exists(folio->_flags_1))
		return BPF_CORE_READ(folio, _flags_1) & 31;
	second = (void *)folio + bpf_core_type_size(struct page___before_5_17);
	return BPF_CORE_READ(second, compound_order) & 31;
}

/* Where a page or folio lies; before 5.17 the events carry a page. */
static __always_inline u64 folio_mapping(struct folio *folio)
{
	struct page___before_5_17 *page = (void *)folio;

	if (bpf_core_field_exists(folio->mapping))
		return (u64)BPF_CORE_READ(folio, mapping);
	return (u64)BPF_CORE_READ(page, mapping);
}

static __always_inline u64 folio_index(struct folio *folio)
{
	struct page___before_5_17 *page = (void *)folio;

	return bpf_core_field_exists(folio->index) ? BPF_CORE_READ(folio, index)
						   : BPF_CORE_READ(page, index);
}

#endif
