//! mimalloc as the allocator of a whole program, asked the short way: the `mimalloc` crate asks for an alignment with
//! every allocation, which for sizes that are no power of two leads past the lists of free blocks.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as mi;

/// Put it into a `#[global_allocator]`.
pub struct Allocator;

/// Every block is aligned to this, if it is as large as that (`MI_MAX_ALIGN_SIZE`); smaller ones to 8.
const ALIGNED: usize = 16;

fn is_plain(size: usize, align: usize) -> bool {
    align <= 8 || (align <= ALIGNED && size >= ALIGNED)
}

// SAFETY: mimalloc's functions keep `GlobalAlloc`'s contract: blocks of at least the size, or null; the plain ones give
// the alignment that `is_plain` relies on, and all of them give blocks that `mi_free` and both `mi_realloc`s take.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: any size and any power of two is allowed.
        unsafe {
            if is_plain(size, align) { mi::mi_malloc(size) } else { mi::mi_malloc_aligned(size, align) }
        }
        .cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as above.
        unsafe {
            if is_plain(size, align) { mi::mi_zalloc(size) } else { mi::mi_zalloc_aligned(size, align) }
        }
        .cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller gives back a block of ours, once.
        unsafe { mi::mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        // SAFETY: as for `alloc` and `dealloc`.
        unsafe {
            if is_plain(size, align) {
                mi::mi_realloc(block.cast(), size)
            } else {
                mi::mi_realloc_aligned(block.cast(), size, align)
            }
        }
        .cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_as_asked_and_keep_what_they_hold() {
        for size in [1, 3, 8, 15, 16, 17, 24, 40, 100, 632, 1000, 5000, 100_000] {
            for align in [1, 2, 4, 8, 16, 32, 64, 4096] {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the block is used within its size and given back with its layout.
                unsafe {
                    let block = Allocator.alloc(layout);
                    assert!(!block.is_null() && block as usize % align == 0, "{size} at {align}");
                    block.write_bytes(7, size);
                    let more = Allocator.realloc(block, layout, size * 3);
                    assert_eq!(more as usize % align, 0, "{size} at {align}");
                    assert!((0..size).all(|at| more.add(at).read() == 7));
                    Allocator.dealloc(more, Layout::from_size_align(size * 3, align).unwrap());
                    let zeroed = Allocator.alloc_zeroed(layout);
                    assert!(zeroed as usize % align == 0 && (0..size).all(|at| zeroed.add(at).read() == 0));
                    Allocator.dealloc(zeroed, layout);
                }
            }
        }
    }
}
