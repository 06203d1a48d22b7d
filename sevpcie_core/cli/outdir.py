"""The folder of `compare --out`: record.json, report.html and each effective scenario as scenario-NAME.toml.

Rules: it is tried before the run; files are made aside and then renamed, the record last; a folder that holds
anything else than an earlier result is left alone.
"""

import errno
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError, RunError
from . import signals

if TYPE_CHECKING:
    from ..record import RunRecord

RECORD: Final = "record.json"
REPORT: Final = "report.html"
_OURS: Final = re.compile(r"record\.json|report\.html|scenario-[\w.-]+\.toml")
# What a writer makes aside; only one that was killed leaves it.
_ASIDE: Final = re.compile(r"\.sevpcie-(\d{1,9})(-[0-9a-f]+)?\.tmp", re.ASCII)


def check(out: Path, again: bool = False) -> None:
    """Raise ConfigError now rather than after the run if the results could not be written.

    Parameters: again: this process has found the folder usable before.
    """
    try:
        if out.exists() and not out.is_dir():
            raise ConfigError(f"--out {out}: a file; expected a folder, new or of an earlier compare")
        if out.is_dir():
            _check_content(out, again)
        whole = out.absolute()
        place = next(folder for folder in (whole, *whole.parents) if folder.exists())
        for folder in (whole, *whole.parents):
            if folder.is_symlink() and not folder.exists():
                raise ConfigError(f"--out {out}: {folder} is a link to nothing; expected a folder")
        if ".." in whole.relative_to(place).parts:
            raise ConfigError(f"--out {out}: '..' below a folder that does not exist")
        _sweep(place)
        trial = _staging(place)
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error.strerror}") from None


def _check_content(out: Path, again: bool) -> None:
    names = sorted(entry.name for entry in out.iterdir())
    aside = [name for name in names if _ASIDE.fullmatch(name)]
    foreign = [name for name in names if not _OURS.fullmatch(name) and name not in aside]
    # A writer that was killed may have moved some files and not yet the record.
    if foreign or (names and RECORD not in names and not aside and not again):
        found = (foreign or names)[0]
        raise ConfigError(f"--out {out}: holds {found!r}; expected an empty folder or an earlier result")


def _sweep(folder: Path) -> None:
    """Remove what writers that no longer run left aside."""
    for entry in folder.glob(".sevpcie-*.tmp"):
        match = _ASIDE.fullmatch(entry.name)
        if match is None or _runs(int(match[1])):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Return whether a process other than this one has this number."""
    if process in (0, os.getpid()):
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def publish(out: Path, record: "RunRecord") -> None:
    """Write the results of a run.

    A new folder appears whole. One that exists is kept (it may be a mount point) and its files are replaced
    one by one, the record last; an interrupt waits for that. Raises RunError if it fails; nothing
    half-written is left.
    """
    check(out, again=True)
    exists = out.is_dir()
    staging = _staging(out if exists else out.absolute().parent)
    try:
        try:
            staging.parent.mkdir(parents=True, exist_ok=True)
            staging.mkdir()
            _write(staging, record)
            with signals.held_back():
                if exists:
                    _replace(out, staging)
                else:
                    staging.rename(out)
                signals.note_written(out)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        kind = ConfigError if error.errno == errno.ENAMETOOLONG else RunError
        raise kind(f"--out {out}: cannot be written: {error.strerror}") from None


def _staging(parent: Path) -> Path:
    return parent / f".sevpcie-{os.getpid()}.tmp"


def _write(folder: Path, record: "RunRecord") -> None:
    from ..api import Scenario
    from ..report.html import page

    for reference in record.options.scenarios:
        name = re.sub(r"[^\w.-]", "_", reference.name)
        text = Scenario.from_dict(reference.scenario).to_toml()
        (folder / f"scenario-{name}.toml").write_text(text, encoding="utf-8")
    (folder / REPORT).write_text(page(record.to_dict()), encoding="utf-8")
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
