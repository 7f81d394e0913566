"""The command ``python -m pti.measure``."""
