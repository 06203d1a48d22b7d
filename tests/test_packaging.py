"""The project around the package: what a wheel holds, what benchmarks run in, what the Makefile says."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile

import pytest
from asv.config import Config


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def asv_conf(root):
    text = (root / "asv.conf.json").read_text()
    return json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))


def names(requirements):
    return {re.split(r"[\s\[<>=!~]", requirement, maxsplit=1)[0] for requirement in requirements}


def test_asv_knows_every_key(asv_conf):
    # asv takes unknown keys without a word: a misspelt one would have no effect.
    assert set(asv_conf) - {"version"} <= set(vars(Config()))
    assert set(asv_conf["matrix"]) <= {"req", "env", "env_nobuild"}


def test_asv_installs_what_the_package_needs(asv_conf, project):
    # The wheel goes in without its dependencies, so they have to stand here.
    assert set(asv_conf["matrix"]["req"]) == names(project["dependencies"])


def test_asv_finds_its_folders(asv_conf, root):
    assert asv_conf["results_dir"] == "results/asv"
    assert list((root / asv_conf["benchmark_dir"]).glob("bench_*.py"))


def test_licence(root, project):
    assert project["license"] == "Apache-2.0"
    text = (root / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_scripts_are_executable(root):
    assert (root / ".ci" / "run").stat().st_mode & stat.S_IXUSR


def test_the_wheel_holds_code_presets_samples_and_templates(root, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps",
         "--no-build-isolation", "-w", tmp_path, root],
        check=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
    package = root / "sevpcie_core"
    wanted = {
        str(path.relative_to(root))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {path for path in found if path.startswith("sevpcie_core/")} == wanted
    assert any(path.endswith("presets/scenarios/nvme.toml") for path in wanted)
    assert any(path.endswith(".html") for path in wanted)


def make(folder, target, **python):
    """Run make in a folder that holds nothing but the Makefile."""
    done = subprocess.run(
        ["make", "-s", target, *[f"{k}={v}" for k, v in python.items()]],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    return [line for line in done.stderr.splitlines() if not line.startswith("make")]


@pytest.fixture
def bare(root, tmp_path, need):
    need("make", "make")
    shutil.copy(root / "Makefile", tmp_path)
    return tmp_path


def fake_python(folder, body):
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_make_without_python(bare):
    assert make(bare, "compare", PYTHON="python-of-nowhere") == [
        "sevpcie: python-of-nowhere not found; install Python 3.11 or later"
    ]


def test_make_with_an_old_python(bare):
    python = fake_python(bare, 'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac')
    (line,) = make(bare, "compare", PYTHON=python)
    assert line == "sevpcie: Python 3.9.2 is too old; Python 3.11 or later is needed (make PYTHON=...)"


def test_make_without_venv(bare):
    python = fake_python(bare, 'case "$2" in *ensurepip*) exit 1;; *) exit 0;; esac')
    (line,) = make(bare, "test", PYTHON=python)
    assert line.endswith("has no venv; install it (Debian, Ubuntu: apt-get install python3-venv)")


def test_make_alone_lists_the_commands(root, need):
    text = subprocess.run(
        [need("make", "make"), "-s"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    for target in ("compare", "test", "lint", "nojit", "bench"):
        assert re.search(rf"^  make {target} +\S", text, re.MULTILINE)


def test_importing_the_package_loads_nothing_heavy():
    code = "import sevpcie_core, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numba", "pandas", "scipy", "matplotlib", "pydantic"} & set(loaded.split())


@pytest.mark.parametrize(("required", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_debian_package_fails_only_where_all_are_required(need, monkeypatch, required, outcome):
    monkeypatch.setenv("SEVPCIE_REQUIRE_PACKAGES", required)
    with pytest.raises(outcome, match="install the Debian package nothing"):
        need("nothing", "program-of-nowhere")


def test_an_unwritable_cache_leaves_one_private_folder(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT")}
    (tmp_path / "cache").write_text("no folder")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(temporary)}

    def load():
        code = "from sevpcie_core import _jit; print(_jit._config.CACHE_DIR)"
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout

    mine = temporary / f"sevpcie-kernels-{os.getuid()}"
    assert load() == load()
    assert list(temporary.iterdir()) == [mine]
    assert mine.stat().st_mode & 0o777 == 0o700
    # Where others may write, compiled code is not to be trusted.
    mine.chmod(0o777)
    # Its folder's random name may begin with the same digits.
    assert str(mine) + os.sep not in load()
    assert list(temporary.iterdir()) == [mine]
