"""The error tree. Kernels return status codes; only Python code raises, and only these.

A message is one line that names the place (file, line or offset, key), what was found and what was expected.
"""


class SevPcieError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1


class ConfigError(SevPcieError):
    """A scenario, preset or option that cannot be used."""

    exit_code = 2


class FormatError(SevPcieError):
    """Input bytes that break the rules of their format."""

    exit_code = 2


class MisuseError(SevPcieError):
    """A call that its caller should not have made."""

    exit_code = 2


class RunError(SevPcieError):
    """A run that started and could not finish."""

    exit_code = 3


class NothingMeasuredError(SevPcieError):
    """A run that ended without a single request."""

    exit_code = 5


class PeerError(SevPcieError):
    """The other end of a link broke a rule."""

    exit_code = 3


class IntegrityError(PeerError):
    """A message whose authentication tag does not match."""


class ReplayError(PeerError):
    """A message seen before, or out of its order."""
