"""Exit codes: the whole list."""

OK = 0
FAILURE = 1
USAGE = 2  # bad flags or config
UNREACHABLE = 3  # no server answers, and nothing else to show
INTERRUPTED = 130
