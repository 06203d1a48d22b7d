"""Benchmarks for asv (`make bench`). Beside them `peers` compares with others, and `gpu` measures real links.

Rules: the suite imports under any version of the package, so imports of it stand in `setup`; kernels are
called once there, because asv's own warm-up is shorter than a compilation; a source edit that does not change
what is measured keeps the `version` of the benchmark.
"""

import os

# Before numba is imported: more threads would measure the scheduler.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
