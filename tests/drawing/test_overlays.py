"""Transparent colours over pictures."""

import numpy as np

from pti.drawing.overlays import smooth_edge, tint


def test_colours_are_blended_by_their_opacity():
    grey = np.full((1, 3, 3), 100, np.uint8)
    tinted = tint(grey, np.array([[0.0, 0.5, 1.0]]), (200, 0, 100))
    assert tinted.tolist() == [[[100, 100, 100], [150, 50, 100], [200, 0, 100]]]
    assert tinted.dtype == np.uint8


def test_a_pixel_across_the_edge_is_partly_inside():
    assert smooth_edge(np.array([-2.0, -0.25, 0.0, 0.25, 2.0])).tolist() == [1, 0.75, 0.5, 0.25, 0]
