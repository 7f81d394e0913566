"""The command ``python -m pti.explore``."""
