"""Exit codes of the commands, beside 0 and the 2 of bad input. It imports nothing, for the sake of the entry."""

INTERRUPTED = 130
"""Of a command that Ctrl-C ended: 128 + SIGINT."""
