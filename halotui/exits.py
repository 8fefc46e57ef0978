"""Exit codes: the whole list."""

OK = 0  # done; of a relaunch: kept
FAILURE = 1  # of a relaunch: refused, nothing was touched
USAGE = 2  # bad flags or config, read-only, or a yes is missing
UNREACHABLE = 3  # no server answers, and nothing else to show; no such server
ROLLED_BACK = 4  # the new server failed; what ran before serves again
LOST = 5  # neither serves
INTERRUPTED = 130


class UsageError(Exception):
    """One line for stderr; exit code 2."""


class UnreachableError(Exception):
    """A far box cannot be reached: one line for stderr; exit code 3."""
