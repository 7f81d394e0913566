"""The command ``python -m pti.demo``."""
