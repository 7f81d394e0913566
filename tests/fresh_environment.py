"""Try the wheel as a user installs it: the commands from an empty folder, then each extra by itself.

``python tests/fresh_environment.py [EXTRA …]`` builds the wheel, installs it into a new environment outside
of the repository, and runs the commands there. For each extra, the command that needs it first has to end
with one message that names the extra; then ``pip install "pti[EXTRA]"`` into a separate environment has to
make it work. It needs an index for pip, and takes about a quarter of an hour. The exit code is 1 if something
failed.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOK = REPOSITORY / "notebooks" / "01_your_data.ipynb"

SMOKE = ["data.root=phantom", "trainer.accelerator=cpu"]
COMMANDS = [
    "pti.make_phantom output_dir=phantom patients=8 slices=2 image_size=64",
    "pti.check data.root=phantom",
    f"pti.train experiment=smoke {' '.join(SMOKE)}",
    f"pti.train experiment=smoke_ldm trust_images=0 {' '.join(SMOKE)}",
    "pti.reconstruct ckpt=best:smoke input_dir=phantom/dente",
    "pti.translate ckpt=best:smoke_ldm input_dir=phantom/dente samples=2",
    "pti.evaluate ckpt=best:smoke_ldm data.root=phantom split=train samples=2",
    "pti.measure data.root=phantom",
    "pti.analyze ckpt=best:smoke atlas_methods=[]",
    "pti.export ckpt=best:smoke_ldm output_dir=model",
    "pti.translate ckpt=model input_dir=phantom/dente samples=1",
    "pti.benchmark suite=data images=8 repeats=1",
    "pti",
]
"""Arguments of ``python -m``, run in this order in an empty folder."""

LZW = """
from pathlib import Path
from PIL import Image
Path("lzw").mkdir(exist_ok=True)
Image.open("phantom/dente/NAME").save("lzw/a.tif", compression="tiff_lzw")
"""
DICOM_HEADER = (
    "from pathlib import Path; Path('dicom').mkdir(); Path('dicom/a.dcm').write_bytes(bytes(128) + b'DICM')"
)
DICOM = """
import numpy as np
from pydicom import dataset, uid
file = dataset.Dataset()
file.file_meta = dataset.FileMetaDataset()
file.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
pixels = np.zeros((64, 64), np.uint16)
pixels[16:48, 16:48] = 1000
file.Rows = file.Columns = 64
file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
file.BitsAllocated = file.BitsStored = 16
file.HighBit, file.PixelRepresentation, file.PixelSpacing = 15, 0, [0.6, 0.6]
file.SOPClassUID, file.SOPInstanceUID = uid.SecondaryCaptureImageStorage, uid.generate_uid()
file.PixelData = pixels.tobytes()
file.save_as("dicom/a.dcm", enforce_file_format=True)
"""
WEIGHTS = """
import os, sys, torch
try:
    import torchvision
except RuntimeError:
    sys.exit()  # the message of the command says why
folder = os.path.join(torch.hub.get_dir(), "checkpoints")
os.makedirs(folder, exist_ok=True)
network = torchvision.models.squeezenet1_1(weights=None)  # random weights take the place of the download
torch.save(network.state_dict(), os.path.join(folder, "squeezenet1_1-b8a52dc0.pth"))
"""
ONNX = """
import subprocess, sys
import numpy as np, tifffile
image = np.zeros((32, 32), np.float32)
image[8:24, 8:24] = 500
tifffile.imwrite("dente.tif", image)
subprocess.run([sys.executable, "onnx/translate.py", "dente.tif", "edente.tif"], check=True)
assert tifffile.imread("edente.tif").shape == (32, 32)
"""


class Extra(NamedTuple):
    """An extra: how to see that it is missing, and that it works.

    Attributes:
        line: Arguments of ``python -m`` that need the extra.
        code: Exit code without it.
        before: Python code that prepares the refusal.
        installed: Python code that runs after the installation and before the line.
        after: Python code, or arguments of ``python -m``, that follow.
        written: Pattern of a file that exists in the end.
        message: What to find in the refusal; the extra's name by default.
        untried: Message that excuses a failure: what the index has doesn't fit this machine.
    """

    line: str
    code: int = 2
    before: str = ""
    installed: str = ""
    after: str = ""
    written: str = ""
    message: str = ""
    untried: str = ""


EXTRAS = {
    "lpips": Extra(
        f"pti.train experiment=smoke model/perceptual=lpips output_dir=lpips {' '.join(SMOKE)}",
        installed=WEIGHTS,
        untried="is built for another torch",
        written="lpips/checkpoints/best.ckpt",
    ),
    "codecs": Extra(
        "pti.measure input_dir=lzw output_dir=measured", 1, before=LZW, written="measured/measures.csv"
    ),
    "explore": Extra("pti.explore ckpt=best:smoke method=pca methods=[pca] port=0"),
    "dicom": Extra(
        "pti.translate ckpt=best:smoke_ldm input_dir=dicom samples=1 output_dir=translated",
        1,
        before=DICOM_HEADER,
        installed=DICOM,
        written="translated/samples/a_s00.tif",
    ),
    "mlflow": Extra(
        f"pti.train experiment=smoke logger=mlflow output_dir=mlflow {' '.join(SMOKE)}",
        written="outputs/mlflow.db",
    ),
    "wandb": Extra(
        f"pti.train experiment=smoke logger=wandb output_dir=wandb {' '.join(SMOKE)}",
        written="wandb/wandb/offline-run-*/*.wandb",
    ),
    "onnx": Extra(
        "pti.export ckpt=best:smoke_ldm format=onnx output_dir=onnx", after=ONNX, written="edente.tif"
    ),
    "monai-bundle": Extra(
        "pti.export ckpt=best:smoke_ldm format=monai_bundle output_dir=bundle",
        0,  # the export itself needs nothing, and says what running the bundle needs
        after="monai.bundle run --config_file bundle/configs/inference.json --bundle_root bundle "
        "--dataset_dir phantom/dente --output_dir from_bundle",
        written="from_bundle/samples/*_s00.tif",
    ),
    "tune": Extra(
        f"pti.tune experiment=smoke trials=2 +space.seed=[1,2] output_dir=tuned {' '.join(SMOKE)}",
        written="tuned/tune.html",
    ),
    "slurm": Extra(
        "pti.measure -m data.root=phantom pixel_mm=0.15,0.2 hydra/launcher=submitit_local output_dir=sweep",
        written="sweep/sweep.html",
    ),
    "notebooks": Extra(
        f"jupyter nbconvert --to notebook --execute --output-dir executed {NOTEBOOK}",
        1,
        message="No module named jupyter",  # not a command of pti
        written="executed/01_your_data.ipynb",
    ),
}


class Failure(Exception):  # noqa: N818  (of what is tried here)
    """A command did not do what it should; the text says which."""


def main() -> int:
    """Run everything that the command line names, and print a table."""
    parser = ArgumentParser()
    parser.add_argument("extras", nargs="*", help=f"some of {', '.join(EXTRAS)}; all by default")
    names = parser.parse_args().extras or list(EXTRAS)
    if unknown := set(names) - set(EXTRAS):
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(EXTRAS)}.")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="pti_") as temporary:
        folder = Path(temporary)
        wheel, base = build(folder)
        work = folder / "empty"
        work.mkdir()
        steps: list[tuple[str, Callable[[], object]]] = [
            *((f"python -m {line}", lambda line=line: last_line(run(base, work, line))) for line in COMMANDS),
            *((f"without {name}", lambda name=name: refused(base, work, name)) for name in names),
            *((f"with {name}", lambda name=name: works(folder, wheel, base, work, name)) for name in names),
        ]
        for title, step in steps:
            try:
                print(f"ok      {title}: {step()}", flush=True)
            except Failure as failure:
                failed += 1
                print(f"FAILED  {title}\n{failure}", flush=True)
    print(f"{len(steps) - failed} passed, {failed} failed")
    return int(failed > 0)


def build(folder: Path) -> tuple[Path, Path]:
    """Build the wheel and install it into a new environment; return both paths."""
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", folder, REPOSITORY)
    (wheel,) = folder.glob("*.whl")
    base = environment(folder / "base")
    pip(python(base), "install", wheel)
    return wheel, base


def pip(interpreter: str | Path, *arguments: str | Path) -> None:
    """Run pip, quietly unless it fails."""
    done = subprocess.run([interpreter, "-m", "pip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"pip {' '.join(map(str, arguments))}\n{done.stderr}")


def environment(folder: Path, below: Path | None = None) -> Path:
    """Create a virtual environment that also sees the packages of another one."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    if below is not None:
        (own,), (others,) = (list(path.glob("lib/python3*/site-packages")) for path in (folder, below))
        (own / "below.pth").write_text(f"{others}\n")
    return folder


def python(folder: Path) -> Path:
    """Return the interpreter of an environment."""
    return folder / "bin" / "python"


def run(where: Path, work: Path, line: str, code: int = 0) -> str:
    """Run ``python -m LINE``, or Python code if it has several statements; return what it printed."""
    words = ["-c", line] if "\n" in line or ";" in line else ["-m", *line.split()]
    done = subprocess.run(
        [python(where), *words],
        cwd=work,
        env=variables(where, work),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != code or (code and "Traceback" in done.stdout):
        raise Failure(f"{' '.join(words)}: exit code {done.returncode}, expected {code}\n{done.stdout}")
    return done.stdout.strip()


def last_line(output: str) -> str:
    """Return the last line."""
    return output.splitlines()[-1]


def variables(where: Path, work: Path) -> dict[str, str]:
    """Return the variables of a command: no path into the repository, the environment's programs first."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    path = f"{where / 'bin'}{os.pathsep}{kept['PATH']}"
    return {**kept, "PATH": path, "OMP_NUM_THREADS": "1", "TORCH_HOME": str(work / "hub")}


def refused(base: Path, work: Path, name: str) -> str:
    """Require that the command ends with one message that names the extra."""
    extra = EXTRAS[name]
    if extra.before:
        file = next((work / "phantom" / "dente").iterdir()).name
        run(base, work, extra.before.replace("NAME", file))
    output = run(base, work, extra.line, extra.code)
    named = [line for line in output.splitlines() if (extra.message or f"pti[{name}]") in line]
    if len(named) != 1:
        raise Failure(f"{extra.line}: expected one line that names the extra\n{output}")
    return named[0]


def works(folder: Path, wheel: Path, base: Path, work: Path, name: str) -> str:
    """Install the extra into a separate environment and require that the command works."""
    extra = EXTRAS[name]
    own = environment(folder / name, base)
    pip(python(own), "install", f"{wheel}[{name}]")
    if extra.installed:
        run(own, work, extra.installed)
    if name == "explore":
        with served(own, work, extra.line) as address, urlopen(address, timeout=20) as response:
            return f"{address}: {response.status}"
    try:
        output = run(own, work, extra.line)
    except Failure as failure:
        if not extra.untried or extra.untried not in str(failure) or "Traceback" in str(failure):
            raise
        return f"not tried: {last_line(str(failure))}"
    if extra.after:
        output = run(own, work, extra.after)
    if extra.written and not list(work.glob(extra.written)):
        raise Failure(f"{extra.line}: there is no {extra.written}\n{output}")
    return extra.written


@contextlib.contextmanager
def served(where: Path, work: Path, line: str) -> Iterator[str]:
    """Serve a page; yield its address."""
    command = [str(python(where)), "-m", *line.split()]
    with subprocess.Popen(
        command,
        cwd=work,
        env=variables(where, work),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        output = ""
        for text in process.stdout:
            output += text
            if match := re.search(r"http://\S+", text):
                yield match[0]
                process.terminate()
                return
        raise Failure(output)


if __name__ == "__main__":
    sys.exit(main())
