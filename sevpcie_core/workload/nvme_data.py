"""Where the data of an NVMe command lie: PRP entries and lists, SGL segments.

Rule: the layout follows from the number of bytes and the offset of the first one in its page, as the
specification has it; a list is as short as it can be. Memory pages are 4 KiB (CC.MPS = 0).
"""

from typing import Final

from .._jit import inline_kernel

PAGE: Final = 4096
_PAGE_SHIFT: Final = 12
# NVM Express Base Specification 2.0, section 4.1.1: a PRP entry is 8 B.
PRP_BYTES: Final = 8
# Section 4.1.2: an SGL descriptor is 16 B.
SGL_BYTES: Final = 16
# A page of a PRP list holds 512 entries; where more follow, the last of them points to the next page.
LIST_ENTRIES: Final = PAGE // PRP_BYTES


@inline_kernel
def pages(size: int, offset: int) -> int:
    """Return how many pages hold `size` bytes from `offset` in the first on; each has its PRP entry."""
    return (offset + size + PAGE - 1) >> _PAGE_SHIFT


@inline_kernel
def list_reads(size: int, offset: int) -> int:
    """Return how many pages of PRP lists a command needs.

    Notes
    -----
    Section 4.1.1: PRP1 holds the first entry; with two, PRP2 holds the second; with more, PRP2 points to a
    list of all but the first. With n - 1 = k entries in the list, k > 512 takes pages of 511 entries and a
    pointer, and a last one of 512 at most: ceil((k - 1) / 511), which is 0 for k of 0 and 1.
    """
    listed = pages(size, offset) - 1
    return (listed - 1 + LIST_ENTRIES - 2) // (LIST_ENTRIES - 1)


@inline_kernel
def list_bytes(size: int, offset: int, number: int) -> int:
    """Return the bytes to read from list page `number`, from 0."""
    listed = pages(size, offset) - 1
    left = listed - number * (LIST_ENTRIES - 1)
    return min(left, LIST_ENTRIES) * PRP_BYTES


@inline_kernel
def segments(size: int, offset: int, contiguous: int) -> int:
    """Return how many SGL data descriptors a command needs where `contiguous` bytes lie together.

    Such runs begin at pages. One descriptor stands in the command itself (section 4.1.2), more in a segment.
    """
    return (offset + size + contiguous - 1) // contiguous
