"""How long nsprov takes beside ``ip -batch`` for the same wiring: ``python -m benchmarks``."""
