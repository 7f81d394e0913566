"""The command ``export``: trained models for other machines and programs."""
