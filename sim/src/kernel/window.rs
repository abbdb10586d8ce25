// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which window to read: the decisions of `page_cache_sync_ra` and `page_cache_async_ra`, as a function of an open file's state and of
//! what is cached around it. What is then read, and in which folios, is `fill`'s.

use super::rules::Rules;
use crate::cache::Store;
use crate::event::RaState;

/// What a decision sees besides the file's state.
pub struct Around<'a> {
    pub rules: &'a Rules,
    pub store: &'a Store,
    pub file: u32,
    pub random: bool,
    /// Largest request that the device takes at once, pages (`bdi->io_pages`).
    pub io_pages: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Nothing,
    /// Exactly these pages, in chunks of 2 MiB at most: random advice, or readahead switched off.
    Forced(u64),
    /// Exactly these pages, and no trace of it in the file's state: a small random read.
    AsIs(u64),
    /// The window that is now in the state, in folios from this order on (kernels that do not keep it in the state).
    Window {
        order: u8,
    },
}

/// First window of a stream (`get_init_ra_size`): two to four times the request, up to the limit.
fn initial(request: u64, max: u64) -> u64 {
    let size = request.next_power_of_two();
    if size <= max / 32 {
        size * 4
    } else if size <= max / 4 {
        size * 2
    } else {
        max
    }
}

/// The window after one of `size` (`get_next_ra_size`).
fn next(size: u64, max: u64) -> u64 {
    if size < max / 16 {
        size * 4
    } else if size <= max / 2 {
        size * 2
    } else {
        max
    }
}

fn round_down(value: u64, pages: u64) -> u64 {
    value & !(pages - 1)
}

impl Around<'_> {
    /// A request above the limit may go up to what the device takes at once.
    fn max_pages(&self, ra: &RaState, request: u64) -> u64 {
        let max = u64::from(ra.ra_pages);
        if request > max && self.io_pages > max { request.min(self.io_pages) } else { max }
    }

    /// A demand miss of `request` pages at `index`.
    pub fn sync(&self, ra: &mut RaState, index: u64, request: u64) -> Decision {
        if ra.ra_pages == 0 {
            return Decision::Forced(1);
        }
        if self.random {
            return Decision::Forced(request);
        }
        let max = self.max_pages(ra, request);
        if self.rules.one_function {
            return self.ondemand(ra, index, request, max, None);
        }
        if index == 0 || request > max || is_next(ra, index) {
            (ra.start, ra.size) = (index, initial(request, max) as u32);
            ra.async_size = if u64::from(ra.size) > request { ra.size - request as u32 } else { ra.size >> 1 };
        } else {
            let last_miss = match self.store.prev_miss_walked(self.file, index - 1, max) {
                Some(page) => page,
                None if self.rules.prev_miss_beyond => index as i64 - 1 - max as i64,
                None => index as i64 - max as i64,
            };
            let history = (index as i64 - 1 - last_miss) as u64;
            if history <= request {
                return Decision::AsIs(request);
            }
            let history = if last_miss < 0 { history * 2 } else { history };
            (ra.start, ra.size, ra.async_size) = (index, (history + request).min(max) as u32, 1);
        }
        if self.rules.order_in_state {
            ra.order = 0;
        }
        Decision::Window { order: 0 }
    }

    /// A reader reached the marker on the folio of `pages` pages at `index`, with `request` pages still to read from there.
    pub fn asynchronous(&self, ra: &mut RaState, index: u64, request: u64, order: u8) -> Decision {
        if ra.ra_pages == 0 {
            return Decision::Nothing;
        }
        let max = self.max_pages(ra, request);
        if self.rules.one_function {
            return self.ondemand(ra, index, request, max, Some(order));
        }
        if index == expected(ra, order) {
            ra.start += u64::from(ra.size);
            ra.size = ra.size.max(next(u64::from(ra.size), max) as u32);
        } else if !self.resume_at_hole(ra, index, request, max) {
            return Decision::Nothing;
        }
        if self.rules.order_in_state {
            self.align(ra, max);
        }
        ra.async_size = ra.size;
        Decision::Window { order }
    }

    /// A marker that the state knows nothing of (interleaved streams): goes on at the next hole, which the old window's length leads
    /// to. `false` where there is none in reach.
    fn resume_at_hole(&self, ra: &mut RaState, index: u64, request: u64, max: u64) -> bool {
        let start = match self.store.next_miss_walked(self.file, index + 1, max) {
            Some(page) => page,
            None if self.rules.next_miss_beyond => index + 1 + max,
            None => index + max,
        };
        if start - index > max {
            return false;
        }
        ra.start = start;
        ra.size = next(start - index + request, max) as u32;
        true
    }

    /// Folios grow by two orders a window, and windows end where such a folio would.
    fn align(&self, ra: &mut RaState, max: u64) {
        ra.order = ra.order.saturating_add(2);
        // ffs(max) - 1; max is not 0 here.
        let align = 1u64 << u32::from(ra.order).min(max.trailing_zeros());
        let end = ra.start + u64::from(ra.size);
        let aligned = round_down(end, align);
        if aligned > ra.start {
            ra.size -= (end - aligned) as u32;
        }
    }

    /// Kernels before 6.10: misses and marker hits in one function.
    fn ondemand(&self, ra: &mut RaState, index: u64, request: u64, max: u64, marker: Option<u8>) -> Decision {
        let order = marker.unwrap_or(0);
        if index != 0 && (index == expected(ra, order) || index == ra.start + u64::from(ra.size)) {
            ra.start += u64::from(ra.size);
            let least = if self.rules.never_shrinks { ra.size } else { 0 };
            ra.size = least.max(next(u64::from(ra.size), max) as u32);
            ra.async_size = ra.size;
        } else if index != 0 && marker.is_some() {
            if !self.resume_at_hole(ra, index, request, max) {
                return Decision::Nothing;
            }
            ra.async_size = ra.size;
        } else if index == 0 || request > max || is_next(ra, index) {
            (ra.start, ra.size) = (index, initial(request, max) as u32);
            ra.async_size = if u64::from(ra.size) > request { ra.size - request as u32 } else { ra.size };
        } else {
            let last_miss = self.store.prev_miss_walked(self.file, index - 1, max).unwrap_or(index as i64 - max as i64);
            let history = (index as i64 - 1 - last_miss) as u64;
            if history <= request {
                return Decision::AsIs(request);
            }
            let history = if history >= index { history * 2 } else { history };
            (ra.start, ra.size, ra.async_size) = (index, (history + request).min(max) as u32, 1);
        }
        self.merge_own_marker(ra, index, max);
        Decision::Window { order }
    }

    /// A window that this very read would find the marker of is read together with the next one.
    fn merge_own_marker(&self, ra: &mut RaState, index: u64, max: u64) {
        if index != ra.start || ra.size != ra.async_size {
            return;
        }
        let more = next(u64::from(ra.size), max);
        if u64::from(ra.size) + more <= max {
            ra.async_size = more as u32;
            ra.size += more as u32;
        } else {
            ra.size = max as u32;
            ra.async_size = (max >> 1) as u32;
        }
    }
}

/// Where the marker of the present window lies: at the start of the folio that holds it.
fn expected(ra: &RaState, order: u8) -> u64 {
    round_down((ra.start + u64::from(ra.size)).wrapping_sub(u64::from(ra.async_size)), 1 << order)
}

/// The read begins on the page that the last one ended on, or on the next.
fn is_next(ra: &RaState, index: u64) -> bool {
    index.wrapping_sub(ra.prev_pos as u64 >> 12) <= 1
}
