"""Asset checks. Each reads the lake, not the word of the process that wrote it."""
