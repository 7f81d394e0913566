"""Outlines of masks as SVG paths."""

import numpy as np

from pti.drawing.outlines import common_crop, outline_path


def test_outlines_run_along_the_pixels_edges():
    mask = np.zeros((5, 6), bool)
    mask[1:4, 2:5] = True
    path = sorted(outline_path(mask).replace("M", "\nM").split())
    assert path == sorted(["M2", "1h3", "M2", "4h3", "M2", "1v3", "M5", "1v3"])
    assert outline_path(np.zeros((3, 3), bool)) == ""
    assert common_crop([mask], margin=1) == (slice(0, 5), slice(1, 6))
