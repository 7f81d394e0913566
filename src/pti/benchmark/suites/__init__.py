"""Suites of ``python -m pti.benchmark``."""
