"""Two ends that fit together, with keys from one source: for tests and tools.

Rule: keys here come from a seed that the caller chooses; how real keys are derived and exchanged is not here.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .. import spec
from .config import StreamConfig
from .keysets import expand
from .stream import Stream

# Key of (direction "ab" or "ba", sub-stream, key set, generation).
KeySource = Callable[[str, int, int, int], bytes]
_SEED: Final = b"sevpcie: keys of a pair that nobody chose; not secret"


def derived_keys(seed: bytes, key_bits: int) -> KeySource:
    """Return a source of keys made from a seed: HKDF with SHA-256 (RFC 5869), a label per key."""

    def key(direction: str, sub_stream: int, key_set: int, generation: int) -> bytes:
        label = f"sevpcie pair {direction} {sub_stream} {key_set} {generation}".encode()
        return HKDF(SHA256(), key_bits // 8, None, label).derive(seed)

    return key


def pair(config: StreamConfig | None = None, keys: bytes | KeySource | None = None) -> tuple[Stream, Stream]:
    """Return two ends of one stream, SECURE with key set 0, for tests and tools.

    Parameters
    ----------
    config : of the first end; the second has requester and partner exchanged. None: the defaults.
    keys : a seed, or a function (direction "ab" or "ba", sub-stream, key set, generation) -> key. None: a
        fixed public seed.
    """
    config = config or StreamConfig()
    a = Stream(config)
    b = Stream(replace(config, requester=config.partner, partner=config.requester))
    refresh(a, b, 0, keys)
    a.enable()
    b.enable()
    return a, b


def refresh(
    a: Stream, b: Stream, key_set: int, keys: bytes | KeySource | None = None, generation: int = 0
) -> None:
    """Give two ends fresh keys in a key set and start it: both receivers, then both transmitters.

    Parameters
    ----------
    key_set : 0 or 1. keys : as for `pair`. generation : part of what keys are derived from: how often this
        key set was filled before.
    """
    source = keys if callable(keys) else derived_keys(_SEED if keys is None else keys, a.profile.key_bits)
    for direction, sender, receiver in (("ab", a, b), ("ba", b, a)):
        for sub_stream in range(spec.IDE_SUB_STREAMS):
            key = source(direction, sub_stream, key_set, generation)
            expanded = expand(key)
            sender._program("tx", sub_stream, key_set, key, expanded)
            receiver._program("rx", sub_stream, key_set, key, expanded)
    for stream in (a, b):
        stream.go("rx", key_set)
    for stream in (a, b):
        stream.go("tx", key_set)
