"""Who is measured: our kernels, intel-ipsec-mb, `cryptography`, `openssl speed`.

Rule: a contender is a function that runs one slice; what it may prepare once is prepared before.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from ipsec_mb import METHODS, IpsecMb

from sevpcie_core.crypto import backends, batch
from sevpcie_core.measure.crypto import expected, verify
from sevpcie_core.measure.pool import TAG_BYTES, Pool, Shape
from sevpcie_core.measure.timing import Slice, Timing, run_slice

SliceOf = Callable[[int], Slice]

OURS: Final = "sevpcie"
KERNEL: Final = "sevpcie kernel"
IPSEC_MB: Final = "ipsec-mb"
CRYPTOGRAPHY: Final = "cryptography"
OPENSSL: Final = "openssl speed"
# What one process of `openssl speed` measures, in seconds: it takes whole ones.
_OPENSSL_S: Final = 1


@dataclass(frozen=True)
class Contender:
    """Somebody on one shape: who, doing what, in which way; and what was measured so far."""

    who: str
    how: str
    operation: str
    shape: Shape
    run: SliceOf
    timing: Timing

    def slice(self, slice_ns: int) -> None:
        """Run one slice more."""
        self.timing.slices.append(self.run(slice_ns))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        shape = self.shape
        return {
            "contender": self.who,
            "how": self.how,
            "operation": self.operation,
            "key_bits": shape.key_bits,
            "payload_bytes": shape.payload_bytes,
            "aad_bytes": shape.aad_bytes,
            "keys": shape.keys,
            "best_ns": self.timing.best_ns,
            "median_ns": self.timing.median_ns,
            "spread_pct": self.timing.spread_pct,
            "passes": self.timing.passes,
        }


def ours(pool: Pool, backend: backends.Backend, fastest: bool) -> Iterator[Contender]:
    """Yield sealing; of the fastest backend also opening, and the kernel alone, on packets as they stand."""
    verify(pool, backend, expected(pool))
    yield _of(OURS, backend.name, "seal", pool, partial(run_slice, partial(pool.seal, backend)))
    if fastest:
        yield _of(OURS, backend.name, "open", pool, partial(run_slice, partial(pool.open, backend)))
        yield _of(KERNEL, backend.name, "seal", pool, partial(run_slice, _kernel(pool, backend)))


def ipsec_mb(pool: Pool, child: IpsecMb) -> Iterator[Contender]:
    """Yield sealing by each of its interfaces, and opening by direct calls."""
    slots = {"seal": child.load(pool), "open": child.load(pool, opening=True)}
    reference = expected(pool)
    for method in METHODS:
        # What an earlier one wrote must not pass for its own.
        pool.spoil("tag")
        child.slice(slots["seal"], method, 0)
        if pool.sealed() != reference:
            raise RuntimeError(f"ipsec_mb {method}: wrong ciphertext or tag for {pool.shape}")
        yield _of(IPSEC_MB, method, "seal", pool, partial(_child_slice, child, slots["seal"], method))
    plain = pool.parts("text", pool.shape.payload_bytes)
    pool.spoil("text")
    child.slice(slots["open"], "direct", 0)
    if pool.parts("text", pool.shape.payload_bytes) != plain:
        raise RuntimeError(f"ipsec_mb: does not open what it sealed for {pool.shape}")
    yield _of(IPSEC_MB, "direct", "open", pool, partial(_child_slice, child, slots["open"], "direct"))


def cryptography(pool: Pool) -> Iterator[Contender]:
    """Yield sealing by one object, a call per packet: into new bytes, and into bytes that are there."""
    size = pool.shape.payload_bytes
    cipher = AESGCM(pool.secrets[0])
    parts = list(
        zip(pool.nonces(), pool.parts("text", size), pool.parts("aad", pool.shape.aad_bytes), strict=True)
    )

    def encrypt() -> None:
        call = cipher.encrypt
        for nonce, text, aad in parts:
            call(nonce, text, aad)

    yield _of(CRYPTOGRAPHY, "encrypt", "seal", pool, partial(run_slice, encrypt))
    # Since version 47.
    encrypt_into = getattr(cipher, "encrypt_into", None)
    if encrypt_into is not None:
        room = [bytearray(size + 16) for _ in parts]

        def into() -> None:
            for (nonce, text, aad), out in zip(parts, room, strict=True):
                encrypt_into(nonce, text, aad, out)

        yield _of(CRYPTOGRAPHY, "encrypt_into", "seal", pool, partial(run_slice, into))


def openssl(shape: Shape) -> Iterator[Contender]:
    """Yield `openssl speed`: one packet again and again, with AAD of 13 bytes and without reading the tag."""
    if shutil.which("openssl"):
        # It says bytes per second of what it chose to repeat: a slice is one pass of one packet.
        yield Contender(OPENSSL, "speed -aead", "seal", shape, partial(_openssl_slice, shape), Timing(1))


def _of(who: str, how: str, operation: str, pool: Pool, run: SliceOf) -> Contender:
    return Contender(who, how, operation, pool.shape, run, Timing(pool.shape.packets))


def _child_slice(child: IpsecMb, slot: int, method: str, slice_ns: int) -> Slice:
    return child.slice(slot, method, slice_ns)


def _kernel(pool: Pool, backend: backends.Backend) -> Callable[[], None]:
    """Return the kernel with arguments that have been checked, and memory that is there."""
    keys, data, scratch = pool.table, pool.memory, batch._take_scratch()
    packets = pool.seal_packets
    return partial(
        backend.seal,
        keys.round_keys,
        keys.powers,
        keys.rounds,
        packets,
        data,
        data,
        data,
        TAG_BYTES,
        scratch,
    )


def _openssl_slice(shape: Shape, slice_ns: int) -> Slice:
    command = ["openssl", "speed", "-mr", "-elapsed", "-seconds", str(_OPENSSL_S), "-aead"]
    command += ["-bytes", str(shape.payload_bytes), "-evp", f"aes-{shape.key_bits}-gcm"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # "+F:25:AES-256-GCM:132214848.00": bytes per second.
    rate = next(line for line in done.stdout.splitlines() if line.startswith("+F:")).split(":")[-1]
    took = shape.payload_bytes / float(rate) * 1e9
    return Slice(took, took, int(_OPENSSL_S * 1e9 / took))
