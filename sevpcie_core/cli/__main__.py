"""`python -m sevpcie_core.cli` does the same as `sevpcie`."""

import sys

from . import main

sys.exit(main())
