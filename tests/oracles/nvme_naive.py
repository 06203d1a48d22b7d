"""Data pointers of NVMe commands, page by page, as the specification tells it."""

PAGE = 4096
PRP = 8
SGL = 16


def pages_of(size: int, offset: int) -> list[int]:
    """Return the bytes in each page."""
    pages = []
    at = offset
    while size > 0:
        here = min(PAGE - at, size)
        pages.append(here)
        size -= here
        at = 0
    return pages


def list_reads(size: int, offset: int) -> list[int]:
    """Return the bytes of each read of a PRP list: page by page, the last entry of a full one a pointer."""
    entries = len(pages_of(size, offset))
    if entries <= 2:
        return []
    left = entries - 1
    reads = []
    while left > PAGE // PRP:
        reads.append(PAGE)
        left -= PAGE // PRP - 1
    reads.append(left * PRP)
    return reads


def segment_bytes(size: int, offset: int, contiguous: int) -> int:
    """Return the bytes of the SGL segment, 0 where the one descriptor stands in the command."""
    runs = 0
    at = 0
    while at < offset + size:
        at += contiguous
        runs += 1
    return runs * SGL if runs > 1 else 0


def commands(size: int, most: int) -> list[int]:
    """Return the bytes of each command of a request."""
    out = []
    while size > 0:
        out.append(min(size, most))
        size -= out[-1]
    return out
