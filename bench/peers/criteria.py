"""What our kernels have to reach beside the others, and whether they did.

Rule: a criterion compares best with best of the same call, and says the same of the medians beside it. It is
judged where the CPU has VAES and AVX-512 and everything it needs was measured; elsewhere it is printed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from contenders import CRYPTOGRAPHY, IPSEC_MB, OURS, Contender

from sevpcie_core.measure.crypto import Ports
from sevpcie_core.measure.pool import Shape

# The ratios, in the order of printing.
PEER, CALL, BOUND, OPEN, AAD = _ORDER = (
    "ipsec-mb / sevpcie, seal",
    "cryptography / sevpcie, seal",
    "seal / bound",
    "open / seal",
    "AAD 20 / AAD 16, seal",
)

# How many times as fast as intel-ipsec-mb, by key size and payload.
IPSEC_MB_BARS: Final = {
    (128, 64): 3.0,
    (128, 128): 2.5,
    (128, 256): 2.2,
    (256, 64): 1.8,
    (256, 128): 1.8,
    (256, 256): 1.8,
}
# How many times the bound, and from which payload on.
BOUND_BAR: Final = 1.3
BOUND_FROM_BYTES: Final = 1024
# Opening beside sealing; AAD of 20 bytes beside 16.
OPEN_BAR: Final = 1.15
AAD_BAR: Final = 1.10
# How many times as fast as a call per packet, at the smallest payload.
CRYPTOGRAPHY_BAR: Final = 30.0
CRYPTOGRAPHY_BYTES: Final = 64


class Time(NamedTuple):
    """What a packet took, in ns: the figure that is judged, and the one printed beside it."""

    best: float
    median: float


@dataclass(frozen=True)
class Criterion:
    """One ratio. `bar` is its least value, or its greatest where not `at_least`; None: only printed."""

    name: str
    shape: Shape
    value: float
    median_value: float
    bar: float | None
    at_least: bool
    judged: bool

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without one."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        shape = self.shape
        return {
            "name": self.name,
            "key_bits": shape.key_bits,
            "payload_bytes": shape.payload_bytes,
            "aad_bytes": shape.aad_bytes,
            "keys": shape.keys,
            "value": self.value,
            "median_value": self.median_value,
            "bar": self.bar,
            "at_least": self.at_least,
            "judged": self.judged,
            "met": self.met,
        }


class Field:
    """All that was measured, to be looked up.

    Parameters: contenders: all of them. backend: the name of the fastest of ours.
    """

    def __init__(self, contenders: Sequence[Contender], backend: str):
        self._contenders = [c for c in contenders if c.timing.slices]
        self._backend = backend

    def shapes(self) -> list[Shape]:
        """Return every shape, in the order of measuring."""
        return list(dict.fromkeys(c.shape for c in self._contenders))

    def time(self, who: str, shape: Shape, operation: str = "seal") -> Time | None:
        """Return somebody's time, None if it was not measured: the fastest of its ways, by the best slice.

        Of ours that is the one that users get, the fastest backend.
        """
        found = [
            c.timing
            for c in self._contenders
            if (c.who, c.shape, c.operation) == (who, shape, operation)
            and (who != OURS or c.how == self._backend)
        ]
        if not found:
            return None
        fastest = min(found, key=lambda timing: timing.best_ns)
        return Time(fastest.best_ns, fastest.median_ns)


def criteria(field: Field, ports: Ports | None, judged: bool) -> list[Criterion]:
    """Return every criterion that can be told from what was measured, one kind after the other."""
    found = [c for shape in field.shapes() for c in _of_shape(field, shape, ports, judged)]
    return sorted(found, key=lambda c: _ORDER.index(c.name))


def _of_shape(field: Field, shape: Shape, ports: Ports | None, judged: bool) -> Iterator[Criterion]:
    def ratio(
        name: str, over: Time | None, under: Time | None, bar: float | None, at_least: bool = False
    ) -> Iterator[Criterion]:
        if over and under:
            # Several keys by turns are printed, not judged.
            bar = bar if shape.keys == 1 else None
            yield Criterion(
                name,
                shape,
                over.best / under.best,
                over.median / under.median,
                bar,
                at_least,
                judged and bar is not None,
            )

    seal = field.time(OURS, shape)
    size = shape.payload_bytes
    yield from ratio(
        PEER, field.time(IPSEC_MB, shape), seal, IPSEC_MB_BARS.get((shape.key_bits, size)), at_least=True
    )
    call_bar = CRYPTOGRAPHY_BAR if size == CRYPTOGRAPHY_BYTES else None
    yield from ratio(CALL, field.time(CRYPTOGRAPHY, shape), seal, call_bar, at_least=True)
    if ports:
        least = ports.bound_ns(shape)
        yield from ratio(BOUND, seal, Time(least, least), BOUND_BAR if size >= BOUND_FROM_BYTES else None)
    yield from ratio(OPEN, field.time(OURS, shape, "open"), seal, OPEN_BAR)
    if shape.aad_bytes == 20:
        yield from ratio(AAD, seal, field.time(OURS, replace(shape, aad_bytes=16)), AAD_BAR)
