"""Metrics of images, bone, sample ensembles and sets of images, as functions of arrays."""
