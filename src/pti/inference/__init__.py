"""Apply trained modules to images: from Python (`pti.load`) and for the commands."""
