"""The folder of `--out`: what a command writes into one, all of it or nothing.

Rules: it is tried before the run; files are made aside and then renamed, the one that makes it a result last;
a folder that holds anything else than an earlier result of the same command is left alone.
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError, RunError
from . import signals

if TYPE_CHECKING:
    from ..record import RunRecord


@dataclass(frozen=True)
class Result:
    """What a command writes: `last` makes a folder its result, `ours` are the names of all its files."""

    command: str
    last: str
    ours: re.Pattern[str]


RECORD: Final = "record.json"
REPORT: Final = "report.html"
COMPARE: Final = Result("compare", RECORD, re.compile(r"record\.json|report\.html|scenario-[\w.-]+\.toml"))
# What a writer makes aside; only one that was killed leaves it.
_ASIDE: Final = re.compile(r"\.sevpcie-(\d{1,9})(-[0-9a-f]+)?\.tmp", re.ASCII)


def check(out: Path, result: Result = COMPARE, again: bool = False) -> None:
    """Raise ConfigError now rather than after the run if the results could not be written.

    Parameters: again: this process has found the folder usable before.
    """
    try:
        if out.exists() and not out.is_dir():
            kind = f"a folder, new or of an earlier {result.command}"
            raise ConfigError(f"--out {out}: a file; expected {kind}")
        if out.is_dir():
            _check_content(out, result, again)
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


def _check_content(out: Path, result: Result, again: bool) -> None:
    names = sorted(entry.name for entry in out.iterdir())
    aside = [name for name in names if _ASIDE.fullmatch(name)]
    foreign = [name for name in names if not result.ours.fullmatch(name) and name not in aside]
    # A writer that was killed may have moved some files and not yet the last.
    if foreign or (names and result.last not in names and not aside and not again):
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
    """Write the results of a comparison; errors as `put`."""
    put(out, COMPARE, _files(record))


def put(out: Path, result: Result, files: Mapping[str, str | bytes]) -> None:
    """Write the files of a result, by name.

    A new folder appears whole. One that exists is kept (it may be a mount point) and its files are replaced
    one by one, the last one last; an interrupt waits for that. Raises RunError if it fails; nothing
    half-written is left.
    """
    check(out, result, again=True)
    exists = out.is_dir()
    staging = _staging(out if exists else out.absolute().parent)
    try:
        made = _missing(staging.parent)
        try:
            staging.parent.mkdir(parents=True, exist_ok=True)
            staging.mkdir()
            _write(staging, files)
            with signals.held_back():
                if exists:
                    _replace(out, staging, result)
                else:
                    staging.rename(out)
                made = []
                signals.note_written(out)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            for folder in made:
                # Another's files may have come into it.
                with contextlib.suppress(OSError):
                    folder.rmdir()
    except OSError as error:
        kind = ConfigError if error.errno == errno.ENAMETOOLONG else RunError
        raise kind(f"--out {out}: cannot be written: {error.strerror}") from None


def _missing(folder: Path) -> list[Path]:
    """Return the folders on the way to one that are not there, the innermost first."""
    return [place for place in (folder, *folder.parents) if not place.exists()]


def _staging(parent: Path) -> Path:
    return parent / f".sevpcie-{os.getpid()}.tmp"


def _files(record: "RunRecord") -> dict[str, str]:
    """Return the files of a comparison: the record, the report and each effective scenario."""
    from ..api import Scenario
    from ..report.html import page

    files = {}
    for reference in record.options.scenarios:
        name = re.sub(r"[^\w.-]", "_", reference.name)
        files[f"scenario-{name}.toml"] = Scenario.from_dict(reference.scenario).to_toml()
    files[REPORT] = page(record.to_dict())
    files[RECORD] = record.to_json()
    return files


def _write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        with open(folder / name, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())


def _replace(out: Path, staging: Path, result: Result) -> None:
    """Move the new files over the old ones; those that only the earlier result had go."""
    new = sorted((file.name for file in staging.iterdir()), key=lambda name: name == result.last)
    for old in out.iterdir():
        if old.name not in new and result.ours.fullmatch(old.name):
            old.unlink()
    for name in new:
        os.replace(staging / name, out / name)
