"""Run the exported model without torch: ``python translate_onnx.py DENTE.tif EDENTE.tif``.

It needs numpy, onnxruntime and tifffile. An autoencoder alone (stage 1) reconstructs the image.
"""

import argparse
import json
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime  # pyright: ignore[reportMissingImports]
import tifffile

FOLDER = Path(__file__).parent
MODEL = json.loads((FOLDER / "model.json").read_text())
NORM = MODEL["normalization"]
TINY = np.finfo(np.float32).tiny


@cache
def session(name: str) -> onnxruntime.InferenceSession:
    """Open one of the graphs."""
    return onnxruntime.InferenceSession(FOLDER / f"{name}.onnx", providers=["CPUExecutionProvider"])


def run(name: str, *inputs) -> list[np.ndarray]:
    """Run one of the graphs; everything is float32, with the batch first."""
    names = [node.name for node in session(name).get_inputs()]
    feed = {key: np.asarray(value, np.float32) for key, value in zip(names, inputs, strict=False)}
    return session(name).run(None, feed)


def normalize(raw: np.ndarray) -> np.ndarray:
    """Bring raw values to the range of the networks; background (exactly 0) becomes -1, or 0 of z-scores."""
    if NORM["kind"] == "MaskedZScore":
        tissue = raw[raw != 0].astype(np.float64)
        NORM["mean"], NORM["std"] = tissue.mean(), tissue.std()
        image = (raw - NORM["mean"]) / NORM["std"]
        return np.where(raw == 0, 0, np.where(image == 0, TINY, image)).astype(np.float32)
    level = (raw - NORM["low"]) * NORM["unit"]
    if NORM["bright_limit"]:
        above = np.maximum(level - (2 - NORM["gap"]), 0)
        level = level - above + np.log1p(above)
    below = np.minimum(np.maximum(-level, 0), NORM["reach"])
    image = np.maximum(level, 0) + NORM["gap"] - 1 - below / (1 + NORM["bend"] * below)
    return np.where(raw == 0, -1, np.maximum(image, NORM["threshold"]))


def denormalize(image: np.ndarray) -> np.ndarray:
    """Return to raw values; only background is exactly 0."""
    if NORM["kind"] == "MaskedZScore":
        raw = image * NORM["std"] + NORM["mean"]
        return np.where(image == 0, 0, np.where(raw == 0, TINY, raw))
    level = image - (NORM["gap"] - 1)
    if NORM["bright_limit"]:
        above = np.maximum(level - (2 - NORM["gap"]), 0)
        level = level - above + np.expm1(above)
    bent = np.maximum(-level, 0)
    below = np.minimum(bent / np.maximum(1 - NORM["bend"] * bent, 1e-12), NORM["reach"])
    raw = (np.maximum(level, 0) - below) / NORM["unit"] + NORM["low"]
    return np.where(image < NORM["threshold"], 0, np.where(raw == 0, TINY, raw))


def translate(raw: np.ndarray, draw) -> np.ndarray:
    """Translate a raw image (S, S); ``draw(shape)`` returns noise, N(0, 1)."""
    image = normalize(raw[None, None].astype(np.float32))
    condition = run("encoder", image)[0] if "encoder" in MODEL["graphs"] else image
    start, scale = MODEL["start"], MODEL["guidance_scale"]
    x = start["source"] * condition + sum(factor * draw(condition.shape) for factor in start["noise"])
    for step in MODEL["steps"]:
        (output,) = run("network", x, [step["timestep"]], condition)
        if scale != 1:
            (without,) = run("network", x, [step["timestep"]], np.zeros_like(condition))
            output = without + scale * (output - without)
        x = step["x"] * x + step["output"] * output + step["source"] * condition
        x = x + sum(factor * draw(condition.shape) for factor in step["noise"])
    (decoded,) = run("decoder", x) if "decoder" in MODEL["graphs"] else (x,)
    translation, lost = decoded, np.float32(1)
    if "detail" in MODEL["graphs"]:
        decoded, lost = run("detail", decoded, run("decoder", condition)[0], image)
    result = denormalize(decoded)
    if "texture" in MODEL["graphs"]:
        tissue = result != 0
        depth, coarse, texture = run("texture", translation, tissue, draw(image.shape))
        texture *= depth * np.interp(coarse, MODEL["texture"]["intensities"], MODEL["texture"]["deviations"])
        textured = denormalize(decoded + lost * texture)
        result = np.where(tissue & (textured != 0), textured, result)
    return result[0, 0].astype(np.float32)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dente", help="single-channel TIF, background exactly 0")
    parser.add_argument("edente", help="the TIF to write")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument(
        "--noise", help="NPZ file whose arrays are used, in their order, in place of new noise"
    )
    options = parser.parse_args()
    given = iter(np.load(options.noise).values()) if options.noise else None
    random = np.random.default_rng(options.seed)
    pixels, size = tifffile.imread(options.dente), MODEL["image_size"]
    if pixels.shape != (size, size):
        parser.error(f"{options.dente}: found the shape {pixels.shape}, expected {size} by {size} pixels")
    edente = translate(
        pixels, lambda shape: next(given) if given else random.standard_normal(shape, np.float32)
    )
    tifffile.imwrite(options.edente, edente)
