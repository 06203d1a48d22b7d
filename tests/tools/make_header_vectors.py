"""Write TLP headers that cocotbext-pcie packs: the fields that it was given, and its bytes.

    python -m venv /tmp/peer && /tmp/peer/bin/pip install cocotbext-pcie
    /tmp/peer/bin/python tests/tools/make_header_vectors.py

writes tests/vectors/headers_cocotbext.json, the same each time. It needs a Python of its own, because the
tool brings a package under the GPL. Messages and prefixes are left out, which the tool does not pack; its
`check` and `get_lower_address` are not asked, because they are wrong.
"""

import json
import random
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cocotbext.pcie.core.tlp import Tlp, TlpType
from cocotbext.pcie.core.utils import PcieId

TARGET = Path(__file__).parents[1] / "vectors" / "headers_cocotbext.json"
COMMAND = "python tests/tools/make_header_vectors.py"
EACH = 6
FOUR_GIB = 1 << 32

MEMORY = ("MEM_READ", "MEM_READ_64", "MEM_READ_LOCKED", "MEM_READ_LOCKED_64", "MEM_WRITE", "MEM_WRITE_64")
ATOMICS = ("FETCH_ADD", "FETCH_ADD_64", "SWAP", "SWAP_64", "CAS", "CAS_64")
PORTS = ("IO_READ", "IO_WRITE")
CONFIG = ("CFG_READ_0", "CFG_WRITE_0", "CFG_READ_1", "CFG_WRITE_1")
COMPLETIONS = ("CPL", "CPL_DATA", "CPL_LOCKED", "CPL_LOCKED_DATA")


def identity(tlp_fields: dict[str, Any], name: str, draw: random.Random) -> PcieId:
    """Draw a bus, device and function, and note it as a number."""
    bus, device, function = draw.randrange(256), draw.randrange(32), draw.randrange(8)
    tlp_fields[name] = bus << 8 | device << 3 | function
    return PcieId(bus, device, function)


def make(name: str, draw: random.Random) -> dict[str, Any]:
    """Return one vector."""
    tlp = Tlp()
    tlp.fmt_type = TlpType[name]
    fields: dict[str, Any] = {}
    tlp.requester_id = identity(fields, "requester", draw)
    fields["tag"] = tlp.tag = draw.choice((draw.randrange(256), draw.randrange(1024)))
    fields["attr"] = tlp.attr = draw.randrange(8)
    fields["td"] = tlp.td = draw.randrange(2)
    fields["ep"] = tlp.ep = draw.randrange(2)
    if name in MEMORY + ATOMICS:
        request(tlp, fields, name, draw)
    elif name in PORTS:
        fields["address"] = tlp.address = draw.randrange(1 << 30) << 2
        fields["length"] = tlp.length = 1
        fields["first_be"] = tlp.first_be = draw.randrange(16)
    elif name in CONFIG:
        tlp.dest_id = identity(fields, "destination", draw)
        fields["register"] = draw.randrange(1024)
        tlp.address = fields["register"] << 2
        fields["length"] = tlp.length = 1
        fields["first_be"] = tlp.first_be = draw.randrange(16)
    else:
        completion(tlp, fields, name, draw)
    if name not in PORTS + CONFIG:
        fields["tc"] = tlp.tc = draw.randrange(8)
    return {"type": name, "fields": dict(sorted(fields.items())), "header": bytes(tlp.pack_header()).hex()}


def request(tlp: Any, fields: dict[str, Any], name: str, draw: random.Random) -> None:
    """Fill a memory request or an AtomicOp."""
    fields["at"] = tlp.at = draw.randrange(3)
    fields["ph"] = tlp.ph = draw.randrange(4)
    fields["th"] = tlp.th = draw.randrange(2) if "READ" not in name else 0
    page = (
        draw.randrange(FOUR_GIB, 1 << 64, 4096) if name.endswith("64") else draw.randrange(0, FOUR_GIB, 4096)
    )
    if name in ATOMICS:
        operand = draw.choice((4, 8, 16) if name.startswith("CAS") else (4, 8))
        fields["address"] = tlp.address = page + draw.randrange(0, 4096, operand)
        fields["length"] = tlp.length = operand * (2 if name.startswith("CAS") else 1) // 4
        fields["first_be"], fields["last_be"] = tlp.first_be, tlp.last_be = (
            draw.randrange(16),
            draw.randrange(16),
        )
        return
    size = draw.choice((1, 2, 3, 4, 7, 8, 64, 255, 256, 4096, draw.randrange(1, 4097)))
    tlp.set_addr_be(page + draw.randrange(0, 4097 - size), size)
    fields["address"], fields["length"] = tlp.address & ~3, tlp.length
    fields["first_be"], fields["last_be"] = tlp.first_be, tlp.last_be


def completion(tlp: Any, fields: dict[str, Any], name: str, draw: random.Random) -> None:
    """Fill a completion."""
    tlp.completer_id = identity(fields, "completer", draw)
    fields["bcm"] = tlp.bcm = draw.randrange(2)
    fields["lower_address"] = tlp.lower_address = draw.randrange(128)
    if name.endswith("DATA"):
        fields["length"] = tlp.length = draw.choice((1, 16, 64, 1024, draw.randrange(1, 1025)))
        fields["status"] = 0
        least = 4 * tlp.length - fields["lower_address"] % 4
        fields["byte_count"] = draw.choice((min(max(least, 1), 4096), 4096))
    else:
        fields["length"] = 0
        fields["status"] = tlp.status = draw.choice((0, 1, 2, 4))
        fields["byte_count"] = draw.choice((4, 1, 4096, draw.randrange(1, 4097)))
    tlp.byte_count = fields["byte_count"]


def main() -> None:
    """Write the file."""
    draw = random.Random(2025)
    names = MEMORY + ATOMICS + PORTS + CONFIG + COMPLETIONS
    vectors = [make(name, draw) for name in names for _ in range(EACH + 2 * (name in MEMORY))]
    lines = ",\n  ".join(json.dumps(vector) for vector in vectors)
    source = {
        "tool": "cocotbext-pcie",
        "version": version("cocotbext-pcie"),
        "license": "MIT",
        "command": COMMAND,
    }
    head = json.dumps(source)[1:-1]
    TARGET.write_text(f'{{{head}, "vectors": [\n  {lines}\n]}}\n', encoding="ascii")
    json.loads(TARGET.read_text(encoding="ascii"))
    print(f"{len(vectors)} headers in {TARGET}", file=sys.stderr)


if __name__ == "__main__":
    main()
