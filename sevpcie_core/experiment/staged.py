"""A scheme of mechanism `bounce` at work: programs of a workload whose data the host's cores stage.

Rule: the link is plain, so nothing is sealed; which data are staged is the policy's decision, as elsewhere.
What the cores do counts as the host's in what limits a run, not as the device's.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..link.run import Marker, Outcome
from ..workload.bounce import Ledger, Staging, staged
from ..workload.program import Program
from .resolved import DeviceRun, Kind, Scheme, at_variant

_PS_PER_NS = 1000


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
) -> tuple[list[Program], list[Marker], list[Ledger]]:
    """Return the programs of a workload staged, markers that seal nothing, and what will have been staged.

    markers : per device, which steps the policy protects.
    """
    stagings = [staging_of(scheme, run.device.kind, variant) for run in devices]
    ledgers = [Ledger(p, s.cores) for p, s in zip(programs, stagings, strict=True)]
    parts = zip(programs, stagings, markers, ledgers, strict=True)
    return [staged(*part) for part in parts], [_nothing for _ in programs], ledgers


def charged(outcome: Outcome, ledgers: Sequence[Ledger]) -> Outcome:
    """Return an outcome that charges staging to the host: the simulator knows servers of a device only."""
    busy = []
    for shares, job, ledger in zip(outcome.busy, outcome.job_ps, ledgers, strict=True):
        # Chunks hold more than a run that is stopped gets to.
        device, cores = (min(ps / job, shares["device"]) for ps in (ledger.device_ps, ledger.core_ps))
        busy.append({**shares, "device": device, "host": max(shares["host"], cores)})
    first = np.cumsum([0, *[len(ledger.staged_ps) for ledger in ledgers]])
    classes = []
    for row, found in enumerate(outcome.classes):
        ledger, stat = ledgers[found.device], row - int(first[found.device])
        mine = found.stalls_ps["device"]
        spent = min(int(ledger.staged_ps[stat]), mine)
        rest = max(mine - spent - int(ledger.paused_ps[stat]), 0)
        stalls = {**found.stalls_ps, "device": rest, "host": found.stalls_ps["host"] + spent}
        classes.append(replace(found, stalls_ps=stalls))
    return replace(outcome, classes=tuple(classes), busy=tuple(busy))


def _nothing(steps: np.ndarray) -> np.ndarray:
    return np.zeros(len(steps), np.bool_)
