"""Apply the model to a TIF with NumPy: python apply.py INPUT.tif OUTPUT.tif.

README.md describes the graphs.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import tifffile

FOLDER = Path(__file__).resolve().parent


def run(graph: str, **values: np.ndarray) -> np.ndarray:
    """Compute the first output of a graph from those of the values that are its inputs."""
    session = onnxruntime.InferenceSession(FOLDER / f"{graph}.onnx")
    inputs = {node.name: values[node.name].astype(np.float32) for node in session.get_inputs()}
    return np.asarray(session.run(None, inputs)[0])


def apply(image: np.ndarray) -> np.ndarray:
    """Translate or reconstruct an image (S, S): raw values, background 0."""
    image = image[None, None]
    if (FOLDER / "translator.onnx").exists():
        return run("translator", image=image)[0, 0]
    return run("decoder", latents=run("encoder", image=image), image=image)[0, 0]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    with tifffile.TiffFile(sys.argv[1]) as file:
        page = file.pages[0]
        result = apply(page.asarray())
    tifffile.imwrite(sys.argv[2], result, resolution=page.resolution, resolutionunit=page.resolutionunit)
