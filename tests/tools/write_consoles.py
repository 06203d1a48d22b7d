"""Rewrite what pages show of the terminal: in each ```console block, what its command prints.

    cd tests && python -m tools.write_consoles ../docs/workloads.md

Commands of `sevpcie` only, one to a block, in a terminal of WIDTH columns that is a pipe.
"""

import contextlib
import io
import os
import re
import shlex
import sys
from pathlib import Path

from sevpcie_core import cli

WIDTH = 110
BLOCK = re.compile(r"^```console\n\$ sevpcie ([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def printed(arguments: str) -> str:
    """Return what `sevpcie ARGUMENTS` prints on standard output. Raises RuntimeError if it fails."""
    out = io.StringIO()
    width = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(WIDTH)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()) as error:
            code = cli.main(shlex.split(arguments))
    finally:
        del os.environ["COLUMNS"]
        if width is not None:
            os.environ["COLUMNS"] = width
    if code:
        raise RuntimeError(f"sevpcie {arguments}: exit code {code}: {error.getvalue().strip()}")
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def rewritten(text: str) -> str:
    """Return a page with its blocks as they are now."""
    return BLOCK.sub(lambda found: f"```console\n$ sevpcie {found[1]}\n{printed(found[1])}```", text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(rewritten(page.read_text()))
