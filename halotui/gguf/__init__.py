"""Models by their files: what a GGUF header tells, without its weights."""
