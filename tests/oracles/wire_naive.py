"""Lay a TLP out byte by byte, as labels, and count the labels. The layout is the specification's, drawn out.

Layout without flits (PCIe Base r6.x, sections 2.2, 3.6 and 6.33): framing and sequence number, IDE prefix,
header, payload in whole double words, PCRC, MAC, LCRC and the rest of the framing. In flit mode the data link
part belongs to the flit and the prefix becomes the OHC-C word of the header; MAC and PCRC are the trailer;
byte enables, where not all are set, are the OHC-A1 word, and what a completion's address has below a double
word is part of OHC-A5.
"""

from collections import Counter

from .split_naive import dword_bytes

FOUR_GIB = 1 << 32

MWR = "MWr"
MRD = "MRd"
CPLD = "CplD"

LINK_LABELS = ("link:framing and sequence", "link:lcrc")


def lay_out(
    kind: str,
    address: int,
    size: int,
    *,
    flit: bool,
    protected: bool,
    pcrc: bool = False,
    last_of_unit: bool = True,
) -> list[str]:
    """Return one label per byte of the TLP on the wire.

    kind: "MWr", "MRd" or "CplD". address, size: what it carries or asks for, bytes. A label begins with the
    part that the byte belongs to: link, header, payload, pad or ide. Of TLPs that share a MAC only the last
    one has it, and the PCRC.
    """
    wire: list[str] = []
    if not flit:
        wire += [LINK_LABELS[0]] * 4
    if protected:
        wire += ["ide:prefix"] * 4
    if kind == CPLD:
        double_words = ["fmt type length", "completer status count", "requester tag lower address"]
        if flit and address % 4:
            double_words.append("status, lower address, OHC-A5")
    else:
        double_words = ["fmt type length", "requester tag enables", "address low"]
        if address >= FOUR_GIB:
            double_words.insert(2, "address high")
        if flit and (address % 4 or (address + size) % 4):
            double_words.append("byte enables, OHC-A1")
    for name in double_words:
        wire += [f"header:{name}"] * 4
    if kind != MRD:
        touched = dword_bytes(address, size)
        wire += ["payload:data"] * size
        wire += ["pad:disabled byte"] * (touched - size)
        if protected and pcrc and last_of_unit:
            wire += ["ide:pcrc"] * 4
    if protected and last_of_unit:
        wire += ["ide:mac"] * 12
    if not flit:
        wire += [LINK_LABELS[1]] * 4
    return wire


def lay_out_sync(*, flit: bool, pcrc: bool = False) -> list[str]:
    """Return one label per byte of an IDE Sync: a protected message without data.

    pcrc: it ends a unit of TLPs with data, on a stream with PCRC.
    """
    wire = [] if flit else [LINK_LABELS[0]] * 4
    wire += ["ide:prefix"] * 4
    for name in ("fmt type length", "requester tag code", "destination", "counters"):
        wire += [f"header:{name}"] * 4
    if pcrc:
        wire += ["ide:pcrc"] * 4
    wire += ["ide:mac"] * 12
    return wire if flit else wire + [LINK_LABELS[1]] * 4


def parts(labels: list[str]) -> Counter[str]:
    """Count the bytes of each part: link, header, payload, pad, ide."""
    return Counter(label.split(":")[0] for label in labels)
