"""Command-line handling that every command goes through."""
