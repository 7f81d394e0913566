"""Helpers without domain knowledge that every other part uses."""
