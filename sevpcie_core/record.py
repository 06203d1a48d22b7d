"""The result record: what one run measured, and all that is needed to repeat it.

Rules: a record is either whole and valid or an error; units stand in the names of its keys; `digest` covers
`results` and nothing else, so that two machines can agree on it.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from .errors import FormatError
from .files import read_json_object, write_atomically

SCHEMA_VERSION: Final = 1
FILE_NAME: Final = "record.json"

VerdictWord = Literal["within", "over", "inconclusive"]
Resource = Literal["link", "credits", "tags", "engine", "host", "iommu", "device", "load"]


class _Part(BaseModel):
    """Frozen; unknown keys, numbers in quotes, NaN and infinity are errors."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class Percentiles(_Part):
    """Nanoseconds. A percentile with fewer than 10 samples above it is null."""

    p50: float | None
    p90: float | None
    p99: float | None
    p999: float | None
    mean: float | None


class Wire(_Part):
    """Bytes of all TLPs in both directions, as they stand on the link."""

    payload_bytes: int
    """What the application asked for."""
    wire_bytes: int
    """Everything."""
    tlps: int
    efficiency: float
    """payload_bytes / wire_bytes."""
    header_bytes: int
    link_bytes: int
    """Framing, sequence number and LCRC."""
    ide_bytes: int
    """Prefix, MAC and PCRC."""


class Change(_Part):
    """A protected run against the baseline. Positive is always worse. Percentages are of the baseline."""

    value_pct: float
    added_ns: float | None
    """Null where the metric is not a time."""
    ci_low_pct: float | None
    """95 % interval, paired over the seeds; null below 5 seeds."""
    ci_high_pct: float | None
    range_low_pct: float | None
    """Every unknown parameter at its favourable end; null where it was not computed."""
    range_high_pct: float | None


class Overhead(_Part):
    """What protection added, by metric; null where the metric itself is null."""

    latency_p50: Change | None
    latency_p99: Change | None
    io_path_p50: Change | None
    io_path_p99: Change | None
    throughput: Change | None
    """Lost throughput."""
    job: Change | None
    """Time of the whole job, GPU only."""


class Verdict(_Part):
    """Against the budget, from p50 and p99 together."""

    end_to_end: VerdictWord
    io_path: VerdictWord


class Cdf(_Part):
    """Points of a cumulative distribution: `p[i]` of the requests took `ns[i]` or less."""

    ns: list[float]
    p: list[float]


class Row(_Part):
    """One workload, class and arm, over all seeds."""

    scenario: str
    workload: str
    class_: str = Field(alias="class")
    """`all`, or one device or kind of request."""
    scheme: str
    policy: Literal["off", "selective", "all"]
    requests: int
    latency_ns: Percentiles
    io_path_ns: Percentiles
    """Latency without media and compute time."""
    throughput_gbps: float | None
    """Payload, Gb/s (10^9 bits per second)."""
    job_ms: float | None
    wire: Wire
    overhead: Overhead | None
    """Null for the baseline."""
    verdict: Verdict | None
    decided_by: str | None
    """What the verdict hangs on: a parameter, `seeds` or `wire`."""
    limited_by: Resource
    limited_at: str | None = None
    """Where `link` limits a row of one device: which link of its way, its own or a switch's uplink, and which
    direction. Where `load` does and its requests queue although nothing is full over the whole run: for what,
    such as `link upstream in bursts`. Not written where there is none."""
    saturated: list[Literal["favourable", "typical", "unfavourable"]] = Field(default_factory=list)
    """Where more arrives than is carried: with the unknown parameters typical, or at one end. A queue grows
    there as long as the run does, so that an added latency has no bound. Not written where it is empty."""
    ledger_ns: dict[str, float] = Field(default_factory=dict)
    """Mean time of a request by place, in the order of its way; the sum is `latency_ns.mean`. Empty in
    records that were made before it was kept."""
    cdf: Cdf
    io_path_cdf: Cdf

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what records once did not have, so that theirs stays their digest."""
        plain: dict[str, Any] = write(self)
        for key in ("limited_at", "saturated"):
            if not plain[key]:
                del plain[key]
        return plain

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """(scenario, workload, class, scheme, policy); unique in a record."""
        return (self.scenario, self.workload, self.class_, self.scheme, self.policy)


class Arm(_Part):
    """One scheme under one policy."""

    scheme: str
    policy: Literal["off", "selective", "all"]


class ScenarioRef(_Part):
    """One scenario that was run."""

    name: str
    digest: str
    """sha256 of its resolved form; traces by their content."""
    scenario: dict[str, Any]
    """Loads again with `Scenario.from_dict`."""


class Options(_Part):
    """Everything that was asked for, defaults included."""

    budget_pct: float
    fail_on: Literal["over", "inconclusive"] | None
    quick: bool
    baseline: str
    requests: int | None
    jobs: int
    scenarios: list[ScenarioRef] = Field(min_length=1)
    arms: list[Arm]


class Simulator(_Part):
    """How fast the simulator ran; no part of the digest."""

    tlps: int
    seconds: float
    """CPU time in the simulator, over all threads; generators and statistics are not in it."""
    tlps_per_s: float
    """On one core: tlps / seconds."""
    threads: int


class Host(_Part):
    """The machine that simulated."""

    cpu: str
    cores: int
    """Cores that this process may use."""
    memory_bytes: int | None
    os: str
    machine: str
    jit: bool
    """False under NUMBA_DISABLE_JIT=1."""


class RunRecord(_Part):
    """The result of one `compare`."""

    schema_version: Literal[1]
    command: Literal["compare"]
    created: str
    """ISO 8601 time, UTC."""
    complete: bool
    """False: interrupted, and written all the same because that was asked for."""
    versions: dict[str, str]
    host: Host
    options: Options
    seeds: list[int] = Field(min_length=1)
    simulator: Simulator
    digest: str
    """sha256 over the canonical JSON of `results`."""
    warnings: list[str]
    results: list[Row]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        seen: set[tuple[str, ...]] = set()
        for row in self.results:
            if row.key in seen:
                raise ValueError(f"results: two rows for {'/'.join(row.key)}")
            seen.add(row.key)
        if self.digest != results_digest(self.results):
            raise ValueError("digest: does not belong to these results; the record was changed after its run")
        return self

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "record") -> Self:
        """Validate plain data.

        Raises FormatError: one line with `where`, the first wrong key, what was found and what is allowed.
        """
        found = data.get("schema_version")
        if found != SCHEMA_VERSION:
            raise FormatError(
                f"{where}: schema_version: {repr(found)[:60]}; this version reads {SCHEMA_VERSION}"
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise FormatError(f"{where}: {explain(error)}") from None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a record from a file, or from the folder that `compare --out` wrote.

        Raises ConfigError if it cannot be read, FormatError if it is not a valid record.
        """
        path = Path(path)
        # `Path.is_dir` raises for a name that is too long.
        if os.path.isdir(path):
            path = path / FILE_NAME
        return cls.from_dict(
            read_json_object(path, expected="a record written by 'sevpcie compare'"), where=str(path)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: `from_dict` of it gives an equal record."""
        return self.model_dump(by_alias=True)

    def to_json(self) -> str:
        """Return the text of the record: one line per top key and per row, so that it diffs well."""
        lines = []
        for key, value in self.to_dict().items():
            if key == "results" and value:
                body = "[\n" + ",\n".join(f"  {_dumps(row)}" for row in value) + "\n ]"
            else:
                body = _dumps(value)
            lines.append(f" {_dumps(key)}: {body}")
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def save(self, path: str | Path) -> None:
        """Write the record; a reader of `path` sees the old file or the new one, never a part.

        Raises ConfigError if it cannot be written.
        """
        write_atomically(Path(path), self.to_json())


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a record."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RunRecord.model_json_schema(by_alias=True),
    }


def results_digest(rows: Iterable[Row | Mapping[str, Any]]) -> str:
    """Return the sha256 (hex) of rows as canonical JSON.

    Canonical: sorted keys, no spaces, floats by their shortest repr. Rows pass through `Row` first, so that
    it does not matter whether a 5.0 was handed over as 5.
    """
    plain = [
        (row if isinstance(row, Row) else Row.model_validate(row)).model_dump(by_alias=True) for row in rows
    ]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def explain(error: ValidationError) -> str:
    """Return the first fault as one line: `results[3].latency_ns.p50: 'x'; expected a valid number`."""
    first = error.errors(include_url=False)[0]
    place = ""
    for part in first["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else part
    match first["type"]:
        case "missing":
            return f"{place}: missing"
        case "extra_forbidden":
            return f"{place}: unknown key"
        case "value_error":
            return first["msg"].removeprefix("Value error, ")
    found = repr(first["input"])
    if len(found) > 60:
        found = found[:57] + "..."
    return f"{place}: {found}; {first['msg'].replace('Input should be', 'expected')}"


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
