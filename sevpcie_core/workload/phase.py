"""When requests of a device begin.

Rule: times are picoseconds since the begin of the run.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

# Later than any time.
FOREVER: Final = int(np.iinfo(np.int64).max)


@dataclass(frozen=True)
class Phase:
    """When requests of a device begin: for `on_ps` of every `every_ps`, the first time from `from_ps` on.

    every_ps : 0 for one time only. A request that is due between two of these times begins with the next.
    """

    from_ps: int = 0
    on_ps: int = FOREVER
    every_ps: int = 0


ALWAYS: Final = Phase()
