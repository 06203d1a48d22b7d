"""Platforms of kind `copies`: what was found of a GPU's copies on a host, with and without bounce buffers.

Rule: a file lists which of its numbers are free (found with data, and with which rows) within which plausible
range; every other one has a source. Nothing is found here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import ValidationError

from ..units import BYTE_UNITS, RATE_UNITS, TIME_UNITS
from ..workload.bounce import Staging
from ..workload.copies import BounceCopies, PlainCopies
from .fields import Choice, Text
from .free import FreeTable, platform_file, problems
from .problems import first_problem
from .quantities import Rate, Size, Time
from .tables import Preset

_MS: Final = 10**9
KIND: Final = "copies"
_BPS_PER_MB: Final = 8 * 10**6
_UNITS: Final = {"us": TIME_UNITS["us"], "GB/s": RATE_UNITS["GB/s"], "MB": BYTE_UNITS["MB"]}


class PlainTable(Preset):
    """Copies without bounce buffers."""

    submit: Annotated[int, Time(_MS)]
    h2d_setup: Annotated[int, Time(_MS)]
    d2h_setup: Annotated[int, Time(_MS)]
    h2d_rate: Annotated[int, Rate()]
    d2h_rate: Annotated[int, Rate()]
    pageable_h2d_setup: Annotated[int, Time(_MS)]
    pageable_d2h_setup: Annotated[int, Time(_MS)]
    pageable_h2d_rate: Annotated[int, Rate()]
    pageable_d2h_rate: Annotated[int, Rate()]
    piece: Annotated[int, Size(1)]
    inline: Annotated[int, Size()]
    inline_rate: Annotated[int, Rate()]

    def build(self) -> PlainCopies:
        """Return the frozen host."""
        return PlainCopies(
            submit_ps=self.submit,
            setup_ps={"h2d": self.h2d_setup, "d2h": self.d2h_setup},
            rate_bps={"h2d": self.h2d_rate, "d2h": self.d2h_rate},
            pageable_setup_ps={"h2d": self.pageable_h2d_setup, "d2h": self.pageable_d2h_setup},
            pageable_rate_bps={"h2d": self.pageable_h2d_rate, "d2h": self.pageable_d2h_rate},
            piece_bytes=self.piece,
            inline_bytes=self.inline,
            inline_rate_bps=self.inline_rate,
        )


class BounceCopyTable(Preset):
    """What bounce buffers add."""

    cipher_rate: Annotated[int, Rate(low=_BPS_PER_MB)]
    cipher_setup: Annotated[int, Time(_MS)]
    shared_rate: Annotated[int, Rate()]
    cache: Annotated[int, Size(1)]
    memory_rate: Annotated[int, Rate()]
    pageable_setup: Annotated[int, Time(_MS)]

    def build(self) -> BounceCopies:
        """Return the frozen bounce buffer; its rate in whole MB/s, as a scheme's."""
        return BounceCopies(
            staging=Staging(1, self.cipher_setup, self.cipher_rate // _BPS_PER_MB),
            shared_rate_bps=self.shared_rate,
            cache_bytes=self.cache,
            memory_rate_bps=self.memory_rate,
            pageable_setup_ps=self.pageable_setup,
        )


class FoundTable(FreeTable):
    """A number that was found with data, and the sets of data."""

    unit: Annotated[str, Choice(tuple(_UNITS))]
    sets: tuple[Annotated[str, Text()], ...]


class CopiesTable(Preset):
    """A platform file of kind `copies`."""

    kind: Annotated[Literal["copies"], Choice((KIND,))]
    systems: tuple[Annotated[str, Text()], ...]
    plain: PlainTable
    bounce: BounceCopyTable
    free: tuple[FoundTable, ...] = ()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield free numbers not there, twice or outside of their range, and others without source."""
        yield from super().problems()
        parts = {"plain": self.plain, "bounce": self.bounce}
        yield from (("free", tail) for _, tail in problems(self.free, parts, _UNITS))
        known = {free.key for free in self.free}
        for table, part in parts.items():
            for name in type(part).model_fields:
                if name not in ("title", "source", *part.source) and f"{table}.{name}" not in known:
                    yield table, f"{name} without a source; expected one, or an entry under [[free]]"


@dataclass(frozen=True)
class CopyPlatform:
    """A platform of kind `copies`, checked.

    systems : which sources of reference data it is about.
    free : which of its numbers were found with data, and with which sets.
    """

    name: str
    systems: tuple[str, ...]
    plain: PlainCopies
    bounce: BounceCopies
    free: tuple[FoundTable, ...]

    def found_with(self, data_set: str) -> int:
        """Return how many free numbers were found with a data set."""
        return sum(data_set in free.sets for free in self.free)


def load_copy_platform(reference: str) -> CopyPlatform:
    """Return a shipped platform of kind `copies` by name, or one from a .toml file.

    Raises ConfigError: no such platform, or a file that breaks a rule.
    """
    name, content, origin = platform_file(reference, KIND)
    try:
        table = CopiesTable.model_validate(content)
    except ValidationError as error:
        raise first_problem(error, content, origin) from None
    for inside, part in (("", table), ("plain", table.plain), ("bounce", table.bounce)):
        for key, tail in part.problems():
            raise origin.error((inside, key) if inside else (key,), tail)
    return CopyPlatform(name, table.systems, table.plain.build(), table.bounce.build(), table.free)
