"""Pictures, charts and HTML pages, from plain values."""
