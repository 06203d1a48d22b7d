"""Made-up records that pass validation: with every fact of the host and the digest of their results."""

from typing import Any

from records import make_record

from sevpcie_core.record import results_digest

HOST = {
    "cpu": "an example CPU",
    "cores": 2,
    "memory_bytes": None,
    "os": "Linux",
    "machine": "x86_64",
    "jit": True,
}


def valid_record(*scenarios: str) -> dict[str, Any]:
    """Return the plain data of a valid record of these scenarios."""
    data = make_record(scenarios)
    return data | {"host": HOST, "digest": results_digest(data["results"])}
