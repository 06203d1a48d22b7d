"""What each TLP is, by byte 0 of its non-flit header: Fmt in bits 7:5, Type in bits 4:0.

Rule: one table says what a kind has; nothing else in the codec knows codes. In flit mode the same codes name
the kinds, but for two (`flit.py`).
"""

from typing import Final

import numpy as np

# PCIe Base r6.x, section 2.2.1, tables "Fmt[2:0]" and "Fmt[2:0] and Type[4:0]".
MRD32: Final = 0x00
MRD64: Final = 0x20
MRDLK32: Final = 0x01
MRDLK64: Final = 0x21
MWR32: Final = 0x40
MWR64: Final = 0x60
IORD: Final = 0x02
IOWR: Final = 0x42
CFGRD0: Final = 0x04
CFGWR0: Final = 0x44
CFGRD1: Final = 0x05
CFGWR1: Final = 0x45
CPL: Final = 0x0A
CPLD: Final = 0x4A
CPLLK: Final = 0x0B
CPLDLK: Final = 0x4B
FETCHADD32: Final = 0x4C
FETCHADD64: Final = 0x6C
SWAP32: Final = 0x4D
SWAP64: Final = 0x6D
CAS32: Final = 0x4E
CAS64: Final = 0x6E
# Deferrable memory write: likely.
DMWR32: Final = 0x5B
DMWR64: Final = 0x7B
# Messages: the routing is in the low three bits.
MSG: Final = 0x30
MSGD: Final = 0x70
# PCIe Base r6.x, section 2.2.8, table "Message Routing": 0 root complex, 1 address, 2 ID, 3 broadcast,
# 4 local, 5 gathered; 6 and 7 are reserved.
ROUTINGS: Final = ("to the root complex", "by address", "by ID", "broadcast", "local", "gathered")

# PCIe Base r6.x, section 2.2.10: prefixes; local: MR-IOV, flit mode, vendor. end-end: TPH, PASID, IDE, vendor
LOCAL_PREFIXES: Final = (0x80, 0x8D, 0x8E, 0x8F)
END_PREFIXES: Final = (0x90, 0x91, 0x92, 0x9E, 0x9F)
# PCIe Base r6.x, section 2.2.10.2: most End-End prefixes of a TLP.
MAX_END_PREFIXES: Final = 4

# Families: what the fields of a header mean (ours).
NONE: Final = 0
MEMORY: Final = 1
IO: Final = 2
CONFIG: Final = 3
COMPLETION: Final = 4
ATOMIC: Final = 5
MESSAGE: Final = 6
LOCAL_PREFIX: Final = 7
END_PREFIX: Final = 8
FAMILY_MASK: Final = 0x0F
# Beside the family: four header DW, payload, a read or DMWr whose byte enables a TPH tag may replace.
FOUR_DW: Final = 0x20
DATA: Final = 0x40
TAGGED: Final = 0x80

_NAMES: Final = {
    MRD32: "MRd32",
    MRD64: "MRd64",
    MRDLK32: "MRdLk32",
    MRDLK64: "MRdLk64",
    MWR32: "MWr32",
    MWR64: "MWr64",
    IORD: "IORd",
    IOWR: "IOWr",
    CFGRD0: "CfgRd0",
    CFGWR0: "CfgWr0",
    CFGRD1: "CfgRd1",
    CFGWR1: "CfgWr1",
    CPL: "Cpl",
    CPLD: "CplD",
    CPLLK: "CplLk",
    CPLDLK: "CplDLk",
    FETCHADD32: "FetchAdd32",
    FETCHADD64: "FetchAdd64",
    SWAP32: "Swap32",
    SWAP64: "Swap64",
    CAS32: "CAS32",
    CAS64: "CAS64",
    DMWR32: "DMWr32",
    DMWR64: "DMWr64",
}
_FAMILIES: Final = {
    MEMORY: (MRD32, MRD64, MRDLK32, MRDLK64, MWR32, MWR64, DMWR32, DMWR64),
    IO: (IORD, IOWR),
    CONFIG: (CFGRD0, CFGWR0, CFGRD1, CFGWR1),
    COMPLETION: (CPL, CPLD, CPLLK, CPLDLK),
    ATOMIC: (FETCHADD32, FETCHADD64, SWAP32, SWAP64, CAS32, CAS64),
    MESSAGE: tuple(base + routing for base in (MSG, MSGD) for routing in range(len(ROUTINGS))),
    LOCAL_PREFIX: LOCAL_PREFIXES,
    END_PREFIX: END_PREFIXES,
}


def _traits() -> np.ndarray:
    """Return u1[256]: family, FOUR_DW, DATA, TAGGED by kind; 0 where there is no such TLP."""
    table = np.zeros(256, np.uint8)
    for family, kinds in _FAMILIES.items():
        for kind in kinds:
            table[kind] = family
            if family < LOCAL_PREFIX:
                table[kind] |= kind & (FOUR_DW | DATA)
    table[[MRD32, MRD64, MRDLK32, MRDLK64, DMWR32, DMWR64]] |= TAGGED
    table.flags.writeable = False
    return table


# u1[256], by kind. Kernels take it in as a constant. FOUR_DW and DATA are the bits of Fmt that say so.
TRAITS: Final = _traits()


def name(kind: int) -> str:
    """Return the standard's name of a kind, such as "MWr64" or "Msg by ID"; "TLP 0x1f" for what is none."""
    if TRAITS[kind] & FAMILY_MASK == MESSAGE:
        return f"{'MsgD' if kind & DATA else 'Msg'} {ROUTINGS[kind & 7]}"
    return _NAMES.get(kind, f"TLP {kind:#04x}")
