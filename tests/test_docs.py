"""What the pages show is what happens: sessions of a terminal are run, Python is executed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tools.write_consoles import BLOCK, printed

DOCS = Path(__file__).resolve().parent.parent / "docs"
CONSOLES = [
    (page.name, arguments, shown)
    for page in sorted(DOCS.glob("*.md"))
    for arguments, shown in BLOCK.findall(page.read_text())
]
CODE = [
    (page.name, i, code)
    for page in sorted(DOCS.glob("*.md"))
    for i, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))
]


def session(page: str) -> tuple[str, str]:
    """Return the commands of a page's indented sessions, and what the page says they print."""
    lines = [line[4:] for line in (DOCS / page).read_text().splitlines() if line.startswith("    ")]
    commands, printed, inside = [], [], False
    for line in lines:
        if line.startswith("$ ") or inside:
            commands.append(line.removeprefix("$ "))
            inside = line.endswith("\\")
        else:
            printed.append(line)
    return "\n".join(commands), "\n".join(printed)


@pytest.mark.parametrize("page", ["wire.md"])
def test_a_session_prints_what_the_page_shows(page):
    script, printed = session(page)
    assert script
    script = script.replace("sevpcie ", f"{sys.executable} -m sevpcie_core.cli ")
    done = subprocess.run(
        ["sh", "-c", script],
        env=os.environ | {"COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    # A first run, and a busy machine, say in between what takes long.
    progress = [f"sevpcie: {stage} ..." for stage in ("compiling", "sealing", "opening")]
    shown = [line for line in done.stdout.rstrip().split("\n") if line not in progress]
    assert "\n".join(shown) == printed


@pytest.mark.parametrize(("page", "arguments", "shown"), CONSOLES, ids=[f"{p}-{a}" for p, a, _ in CONSOLES])
def test_a_console_shows_what_its_command_prints(page, arguments, shown):
    """`python -m tools.write_consoles` writes it anew."""
    assert printed(arguments) == shown


@pytest.mark.parametrize(("page", "index", "code"), CODE, ids=[f"{page}-{i}" for page, i, _ in CODE])
def test_python_of_a_page_runs(page, index, code, capsys):
    names = {}
    exec(compile(code, page, "exec"), names)
    # "# b'payload'" behind an expression or a line is what it gives.
    for line, value in re.findall(r"^([^#\n]+?)\s+# (b'.*')$", code, re.MULTILINE):
        assert repr(eval(line, names)) == value


def test_samples_of_formats_are_listed(root):
    folder = root / "tests" / "samples"
    text = (folder / "README.md").read_text()
    assert all(
        f"`{path.name}`" in text or path.name == "README.md"
        for path in folder.iterdir()
        if "captures" not in path.name
    )
    assert "](README-captures.md)" in text
