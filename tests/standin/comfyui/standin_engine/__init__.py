"""Inner parts of execution.py; nothing a hook would look for lives here."""
