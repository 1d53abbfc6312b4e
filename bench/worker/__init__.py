"""`python -m bench.worker`: the worker against vLLM alone, against others, and against the machine's own ceiling."""
