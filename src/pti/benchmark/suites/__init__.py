"""The suites of ``python -m pti.benchmark``."""
