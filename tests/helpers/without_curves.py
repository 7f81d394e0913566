"""Importing this module omits ``curves.png`` at the end of trainings, as the fixture of this name does."""

from pti.train import console

console.draw_curves = lambda rows, path: None
