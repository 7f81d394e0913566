"""The command ``python -m pti.analyze``."""
