"""The command ``python -m pti.translate``."""
