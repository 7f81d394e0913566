"""Data sets of TIF images: layouts, splits, caches, normalization and batches."""
