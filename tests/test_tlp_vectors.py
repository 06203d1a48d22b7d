"""Headers that cocotbext-pcie packed (`tools.make_header_vectors`): the same fields, the same bytes."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sevpcie_core.tlp import kinds
from sevpcie_core.tlp.batch import TLP, Batch
from sevpcie_core.tlp.codec import pack, parse

pytestmark = pytest.mark.nojit

FILE = Path(__file__).parent / "vectors" / "headers_cocotbext.json"
CONTENT = json.loads(FILE.read_text(encoding="ascii"))
VECTORS: list[dict[str, Any]] = CONTENT["vectors"]

# The tool's names and ours.
NAMES = {
    "MEM_READ": "MRd32",
    "MEM_READ_64": "MRd64",
    "MEM_READ_LOCKED": "MRdLk32",
    "MEM_READ_LOCKED_64": "MRdLk64",
    "MEM_WRITE": "MWr32",
    "MEM_WRITE_64": "MWr64",
    "FETCH_ADD": "FetchAdd32",
    "FETCH_ADD_64": "FetchAdd64",
    "SWAP": "Swap32",
    "SWAP_64": "Swap64",
    "CAS": "CAS32",
    "CAS_64": "CAS64",
    "IO_READ": "IORd",
    "IO_WRITE": "IOWr",
    "CFG_READ_0": "CfgRd0",
    "CFG_WRITE_0": "CfgWr0",
    "CFG_READ_1": "CfgRd1",
    "CFG_WRITE_1": "CfgWr1",
    "CPL": "Cpl",
    "CPL_DATA": "CplD",
    "CPL_LOCKED": "CplLk",
    "CPL_LOCKED_DATA": "CplDLk",
}


def wire_of(vector: dict[str, Any]) -> bytes:
    """Return the header with a payload and a digest, as its fields ask for them."""
    fields, header = vector["fields"], bytes.fromhex(vector["header"])
    payload = bytes(4 * fields["length"]) if header[0] & kinds.DATA else b""
    return header + payload + bytes(4 * fields["td"])


def test_the_file_names_its_source() -> None:
    assert CONTENT["tool"] == "cocotbext-pcie"
    assert CONTENT["version"]
    assert "make_header_vectors" in CONTENT["command"]
    counted = Counter(vector["type"] for vector in VECTORS)
    assert set(counted) == set(NAMES)
    assert min(counted.values()) >= 6
    assert len(VECTORS) >= 140


def test_fields() -> None:
    batch = parse(b"".join(map(wire_of, VECTORS)))
    assert len(batch) == len(VECTORS)
    for i, vector in enumerate(VECTORS):
        assert kinds.name(int(batch.tlps[i]["kind"])) == NAMES[vector["type"]]
        for name, value in vector["fields"].items():
            assert batch.tlps[i][name] == value, f"{name} of {vector}"


def test_bytes() -> None:
    names = {kinds.name(kind): kind for kind in range(256)}
    tlps = np.zeros(len(VECTORS), TLP)
    for i, vector in enumerate(VECTORS):
        tlps[i]["kind"] = names[NAMES[vector["type"]]]
        for name, value in vector["fields"].items():
            tlps[i][name] = value
        if tlps[i]["kind"] & kinds.DATA:
            tlps[i]["data_bytes"] = 4 * vector["fields"]["length"]
    data, offsets = pack(Batch(tlps, np.zeros(4096, np.uint8)))
    for i, vector in enumerate(VECTORS):
        assert data[offsets[i] : offsets[i + 1]].tobytes() == wire_of(vector), vector
