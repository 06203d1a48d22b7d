"""A scheme whose cost lies with the host's cores: programs of a workload whose protected data they handle.

Rule: which data are handled is the policy's decision, as elsewhere. A bounce buffer stages them, and the link
is plain, so nothing is sealed; a scheme on the link may have a hook in the driver's mapping of each.
What the cores do counts as the host's in what limits a run, not as the device's (`Program.cores`).
"""

from collections.abc import Sequence

import numpy as np

from ..link.run import Marker
from ..workload.bounce import Staging, staged
from ..workload.program import Program
from .resolved import DeviceRun, Kind, Scheme, at_variant

_PS_PER_NS = 1000
# A hook runs on the core that maps the buffer, so cores are never what it waits for.
_HOOK_CORES = 1024
_NO_TIME_PER_BYTE = 10**15


def staging_of(scheme: Scheme, kind: Kind, variant: str = "typical") -> Staging:
    """Return what cores do for a kind of device under a scheme of mechanism `bounce`."""
    values = at_variant(scheme.bounce, variant)
    work = "cipher" if kind in scheme.cipher_devices else "copy"
    return Staging(values["cores"], values[f"{work}_setup_ns"] * _PS_PER_NS, values[f"{work}_mb_per_s"])


def stage_all(
    programs: Sequence[Program],
    devices: Sequence[DeviceRun],
    scheme: Scheme,
    variant: str,
    markers: Sequence[Marker],
) -> tuple[list[Program], list[Marker]]:
    """Return the programs of a workload staged, and markers that seal nothing.

    markers : per device, which steps the policy protects.
    """
    stagings = [staging_of(scheme, run.device.kind, variant) for run in devices]
    parts = zip(programs, stagings, markers, strict=True)
    return [staged(*part) for part in parts], [_nothing for _ in programs]


def hook_all(programs: Sequence[Program], hook_ps: int, markers: Sequence[Marker]) -> list[Program]:
    """Return the programs with a hook per mapping of protected data: before a read of them, after a write.

    It takes as long for many bytes as for few.
    """
    hook = Staging(_HOOK_CORES, hook_ps, _NO_TIME_PER_BYTE)
    return [staged(program, hook, marker) for program, marker in zip(programs, markers, strict=True)]


def _nothing(steps: np.ndarray) -> np.ndarray:
    return np.zeros(len(steps), np.bool_)
