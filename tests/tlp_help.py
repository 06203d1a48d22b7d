"""What the tests of the codec share: rows as dicts, offsets, and the rule that an error message speaks of."""

from collections.abc import Sequence

import numpy as np
import pytest
from oracles import tlp_naive
from oracles.tlp_naive import Fields

from sevpcie_core.errors import FormatError
from sevpcie_core.tlp.batch import Batch
from sevpcie_core.tlp.codec import pack, parse
from sevpcie_core.tlp.rules import TEXTS


def row(batch: Batch, i: int) -> Fields:
    """Return TLP i as a dict of the plain codec."""
    tlp = batch.tlps[i]
    fields = {name: int(tlp[name]) for name in tlp_naive.NUMBERS}
    local = 4 * int(tlp["local_prefixes"])
    prefixes, ohc_e, payload, trailer = batch.variable(i)
    assert len(payload) == tlp["data_bytes"]
    assert len(trailer) == tlp["trailer_bytes"]
    parts = {"local": prefixes[:local], "end": prefixes[local:], "payload": payload}
    return {**fields, **parts, "trailer": trailer, "ohc_e": ohc_e}


def cuts(wires: Sequence[bytes]) -> np.ndarray:
    """Return where each of some TLPs starts, and where the last ends."""
    return np.cumsum([0, *map(len, wires)])


def one(fields: Fields, *, flit: bool = False) -> Batch:
    """Return a batch of one TLP."""
    return parse(tlp_naive.write(fields, flit=flit), flit=flit)


def rule_of(message: str) -> str:
    """Return the name of the rule that an error message ends with."""
    found = [rule.name for rule, (field, text) in TEXTS.items() if message.endswith(f", {field}: {text}")]
    assert len(found) == 1, f"{message!r} speaks of {found}"
    return found[0]


def refusal(call: object, *args: object, **options: object) -> str:
    """Return the message of the FormatError that a call raises."""
    with pytest.raises(FormatError) as caught:
        call(*args, **options)  # type: ignore[operator]
    return str(caught.value)


def parsed_or_rule(data: bytes, offsets: np.ndarray | None = None, *, flit: bool = False) -> Batch | str:
    """Return the batch, or the message of the error."""
    try:
        return parse(data, offsets, flit=flit)
    except FormatError as error:
        return str(error)


def packed(batch: Batch) -> bytes:
    return pack(batch)[0].tobytes()
