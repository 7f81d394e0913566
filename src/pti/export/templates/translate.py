"""Translate a dente TIF to an edente TIF with NumPy: python translate.py DENTE.tif EDENTE.tif [SEED].

Every SEED draws another sample. README.md describes the graphs.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import tifffile

FOLDER = Path(__file__).resolve().parent
SAMPLING = json.loads((FOLDER / "sampling.json").read_text(encoding="utf-8"))
GRAPHS = {path.stem: onnxruntime.InferenceSession(path) for path in FOLDER.glob("*.onnx")}


def run(graph: str, **values: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the outputs of a graph from those of the values that are its inputs."""
    session = GRAPHS[graph]
    inputs = {node.name: values[node.name].astype(np.float32) for node in session.get_inputs()}
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, map(np.asarray, session.run(names, inputs)), strict=True))


def translate(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw an edente image (S, S) of a dente image (S, S): raw values, background 0."""

    def normal(shape: tuple[int, ...]) -> np.ndarray:
        return random.standard_normal(shape, np.float32)

    image, scale = image[None, None], SAMPLING["guidance_scale"]
    given = run("encoder", image=image, size_noise=normal((1, SAMPLING["sizes"])))
    nothing, source = {name: 0 * value for name, value in given.items()}, given["latents"]

    def estimate(x: np.ndarray, at: dict) -> tuple[np.ndarray, np.ndarray]:
        """Estimate x0 and noise from x."""
        values = {"x": x, "timestep": np.full(1, at["timestep"])}
        output = run("denoiser", **values, **given)["output"]
        if scale != 1:
            without = run("denoiser", **values, **nothing)["output"]
            output = without + scale * (output - without)
        z, o = x - at["source_in_x"] * source, output - at["source_in_output"] * source
        x0, noise = (first * z + second * o for first, second in (at["x0_from"], at["noise_from"]))
        return x0, normal(x.shape) if at["draws_noise"] else noise

    x = SAMPLING["start"]["source"] * source + SAMPLING["start"]["noise"] * normal(source.shape)
    before = 0.0
    for number, step in enumerate(SAMPLING["steps"]):
        (x0, noise), to = estimate(x, step), step["next"]
        x = to["x0"] * x0 + to["source"] * source + to["noise"] * noise + to["x0_change"] * (x0 - before)
        if to["fresh"]:
            x = x + to["fresh"] * normal(x.shape)
        if to["heun"]:
            x0_ahead, noise_ahead = estimate(x, SAMPLING["steps"][number + 1])
            x = x + to["heun"] * ((noise_ahead - x0_ahead) - (noise - x0))
        before = x0
    return run("decoder", x0=x, **given, image=image, texture_noise=normal(image.shape))["translation"][0, 0]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    with tifffile.TiffFile(sys.argv[1]) as file:
        page = file.pages[0]
        dente, size = page.asarray(), SAMPLING["image_size"]
    if dente.shape != (size, size):
        sys.exit(f"{sys.argv[1]}: found {dente.shape} pixels, expected {(size, size)}. Resize it first.")
    edente = translate(dente, np.random.default_rng(int(sys.argv[3]) if len(sys.argv) > 3 else 0))
    tifffile.imwrite(sys.argv[2], edente, resolution=page.resolution, resolutionunit=page.resolutionunit)
