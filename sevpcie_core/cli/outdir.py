"""The folder of `compare --out`: record.json, report.html and each effective scenario as scenario-NAME.toml.

Rules: it is tried before the run; files are made aside and then renamed, the record last; a folder that holds
anything else than an earlier result is left alone.
"""

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError, RunError

if TYPE_CHECKING:
    from ..record import RunRecord

RECORD: Final = "record.json"
REPORT: Final = "report.html"
_OURS: Final = re.compile(r"record\.json|report\.html|scenario-[\w.-]+\.toml")


def check(out: Path) -> None:
    """Raise ConfigError now rather than after the run if the results could not be written."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: a file; expected a folder, new or of an earlier compare")
    if out.is_dir():
        names = sorted(entry.name for entry in out.iterdir())
        foreign = [name for name in names if not _OURS.fullmatch(name)]
        if names and (foreign or RECORD not in names):
            found = (foreign or names)[0]
            raise ConfigError(f"--out {out}: holds {found!r}; expected an empty folder or an earlier result")
    place = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    try:
        trial = _staging(place)
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error.strerror}") from None


def publish(out: Path, record: "RunRecord") -> None:
    """Write the results of a run.

    A new folder appears whole. One that exists is kept (it may be a mount point) and its files are replaced
    one by one, the record last. Raises RunError if it fails; nothing half-written is left.
    """
    check(out)
    exists = out.is_dir()
    staging = _staging(out if exists else out.absolute().parent)
    try:
        try:
            staging.parent.mkdir(parents=True, exist_ok=True)
            staging.mkdir()
            _write(staging, record)
            if exists:
                _replace(out, staging)
            else:
                staging.rename(out)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise RunError(f"--out {out}: cannot be written: {error.strerror}") from None


def _staging(parent: Path) -> Path:
    return parent / f".sevpcie-{os.getpid()}.tmp"


def _write(folder: Path, record: "RunRecord") -> None:
    from ..api import Scenario
    from ..report.html import write_html

    for reference in record.options.scenarios:
        name = re.sub(r"[^\w.-]", "_", reference.name)
        text = Scenario.from_dict(reference.scenario).to_toml()
        (folder / f"scenario-{name}.toml").write_text(text, encoding="utf-8")
    write_html(record.to_dict(), folder / REPORT)
    (folder / RECORD).write_text(record.to_json(), encoding="utf-8")
    for file in folder.iterdir():
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())


def _replace(out: Path, staging: Path) -> None:
    """Move the new files over the old ones; scenarios that only the earlier result had go."""
    new = sorted((file.name for file in staging.iterdir()), key=lambda name: name == RECORD)
    for old in out.glob("scenario-*.toml"):
        if old.name not in new:
            old.unlink()
    for name in new:
        os.replace(staging / name, out / name)
