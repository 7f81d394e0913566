"""Sweeps: their record on disk, their folders and the report at the end."""
