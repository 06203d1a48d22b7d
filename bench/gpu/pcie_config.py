"""Tell what the configuration space of PCI devices says of their links: payload and read sizes, tags.

    python3 bench/gpu/pcie_config.py [VENDOR ...] > config.txt

Vendors are hexadecimal (`10de`); without, all devices. Reads sysfs alone and changes nothing. All of a
device's space is there for root, else its first 64 bytes. In a virtual machine it is what the hypervisor
shows: VFIO keeps MPS and MRRS of Device Control as they were when the guest started, and shows no upstream
bridge.
"""

import sys
from pathlib import Path

# What the kernel says of a device, beside its configuration space.
FILES = ("class", "current_link_speed", "current_link_width", "max_link_speed", "max_link_width")
DEVICES = Path("/sys/bus/pci/devices")

# PCIe Base r6.x, section 7.5.3 and chapter 7.6 to 7.9; names as lspci has them.
CAPABILITIES = {0x01: "PM", 0x05: "MSI", 0x09: "vendor", 0x10: "PCIe", 0x11: "MSI-X"}
EXTENDED = {
    0x01: "AER", 0x02: "VC", 0x03: "serial", 0x04: "power budget", 0x0B: "vendor", 0x0D: "ACS", 0x0E: "ARI",
    0x0F: "ATS", 0x10: "SR-IOV", 0x13: "PRI", 0x15: "resizable BAR", 0x17: "TPH", 0x18: "LTR",
    0x19: "secondary PCIe", 0x1B: "PASID", 0x1E: "L1 PM", 0x1F: "PTM", 0x23: "DVSEC", 0x25: "DL feature",
    0x26: "16 GT/s", 0x27: "margining", 0x2A: "32 GT/s", 0x2E: "DOE", 0x2F: "device 3", 0x30: "IDE",
    0x31: "64 GT/s", 0x32: "flit logging",
}  # fmt: skip


def number(space: bytes, at: int, size: int) -> int | None:
    """Return a little-endian register, or None if the space that can be read ends before it."""
    return int.from_bytes(space[at : at + size], "little") if at + size <= len(space) else None


def bits(value: int, high: int, low: int) -> int:
    """Return bits high to low of a register."""
    return value >> low & (1 << high - low + 1) - 1


def capabilities(space: bytes) -> list[tuple[int, int]]:
    """Return (ID, offset) of each capability in the first 256 bytes."""
    found: list[tuple[int, int]] = []
    at = number(space, 0x34, 1) or 0
    while at >= 0x40 and at + 2 <= len(space) and len(found) < 48:
        found.append((space[at], at))
        at = space[at + 1] & 0xFC
    return found


def extended(space: bytes) -> list[tuple[int, int, int]]:
    """Return (ID, version, offset) of each extended capability."""
    found: list[tuple[int, int, int]] = []
    at = 0x100
    while at >= 0x100 and len(found) < 96:
        header = number(space, at, 4)
        if not header or header == 0xFFFFFFFF:
            break
        found.append((bits(header, 15, 0), bits(header, 19, 16), at))
        at = bits(header, 31, 20) & 0xFFC
    return found


def express(space: bytes, at: int) -> dict[str, object]:
    """Return what the PCI Express capability at an offset says of the link."""

    def register(offset: int, size: int) -> int:
        return number(space, at + offset, size) or 0

    control, able = register(0x08, 2), register(0x04, 4)
    able2, control2 = register(0x24, 4), register(0x28, 2)
    link_able, link, status = register(0x0C, 4), register(0x10, 2), register(0x12, 2)
    return {
        "port type": bits(register(0x02, 2), 7, 4),
        "MPS supported": 128 << bits(able, 2, 0),
        "MPS": 128 << bits(control, 7, 5),
        "MRRS": 128 << bits(control, 14, 12),
        "relaxed ordering": bits(control, 4, 4),
        "no snoop": bits(control, 11, 11),
        "extended tags supported": bits(able, 5, 5),
        "extended tags": bits(control, 8, 8),
        "10-bit tag completer, requester": (bits(able2, 16, 16), bits(able2, 17, 17)),
        "10-bit tags": bits(control2, 12, 12),
        "atomics: routing, 32, 64, CAS 128": tuple(bits(able2, i, i) for i in (6, 7, 8, 9)),
        "atomic requester": bits(control2, 6, 6),
        "IDO request, completion": (bits(control2, 8, 8), bits(control2, 9, 9)),
        "LTR": bits(control2, 10, 10),
        "RCB": 128 if bits(link, 3, 3) else 64,
        "ASPM supported": bits(link_able, 11, 10),
        "ASPM": bits(link, 1, 0),
        "link at most: generation, lanes": (bits(link_able, 3, 0), bits(link_able, 9, 4)),
        "link now: generation, lanes": (bits(status, 3, 0), bits(status, 9, 4)),
    }


def tell(device: Path) -> None:
    """Print what there is of a device."""
    space = (device / "config").read_bytes()
    print(f"== {device.name} {number(space, 0, 2):04x}:{number(space, 2, 2):04x}, at {device.resolve()}")
    for name in FILES:
        if (device / name).is_file():
            try:
                print(f"{name}: {(device / name).read_text().strip()}")
            except OSError as error:
                print(f"{name}: {error.strerror}")
    print(f"{len(space)} bytes can be read")
    for what, at in capabilities(space):
        print(f"[{at:02x}] {CAPABILITIES.get(what, hex(what))}")
        if what == 0x10:
            for key, value in express(space, at).items():
                print(f"    {key}: {value}")
    for what, version, at in extended(space):
        print(f"[{at:03x} v{version}] {EXTENDED.get(what, hex(what))}")
    for at in range(0, len(space), 32):
        if any(space[at : at + 32]):
            print(f"{at:03x}: {space[at : at + 32].hex(' ', 4)}")


def main() -> None:
    """Tell of the devices of the vendors that are named."""
    wanted = {int(vendor, 16) for vendor in sys.argv[1:]}
    for device in sorted(DEVICES.iterdir()) if DEVICES.is_dir() else ():
        try:
            if not wanted or int((device / "vendor").read_text(), 16) in wanted:
                tell(device)
        except OSError as error:
            print(f"== {device.name}: {error.strerror}")


if __name__ == "__main__":
    main()
