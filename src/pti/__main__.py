"""Console script ``pti VERB key=value …``, equivalent to ``python -m pti.VERB key=value …``.

``eval "$(pti completion bash)"`` lets the shell complete verbs, groups, options and keys.
"""

import difflib
import importlib
import sys
from importlib import metadata

from pti.common.terminal import tolerate_encoding

VERBS = {
    "demo": "run every step on the phantom, or on your own pairs, and write one page (15 to 30 minutes)",
    "make_phantom": "write the phantom data set: paired jaw cross-sections with known bone",
    "check": "check a data set and write a report; exit with 1 if it cannot be used for training",
    "train": "train the model of an experiment",
    "tune": "search for good values of chosen settings of a training, with Optuna",
    "reconstruct": "reconstruct images with a trained VAE",
    "translate": "generate edente images from dente images",
    "evaluate": "compare a checkpoint's predictions, or any images, with the true images; write a report",
    "measure": "measure the bone in a folder of images: height, widths and area, as a table and a picture",
    "analyze": "draw and measure a VAE's latent space: pictures, tables, one page",
    "explore": "explore a VAE's latent space in the browser",
    "export": "write a trained model as a folder for other machines, without its training state",
    "convert": "convert settings and weights of PTI-LDM-VAE's scripts into an experiment and a checkpoint",
    "benchmark": "time our defaults against the plain recipe of common scripts, on the device there is",
}


def main() -> None:
    """Run one verb or list all verbs; end with the verb's exit code, or with 2 for an unknown verb."""
    tolerate_encoding()
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        sys.exit(0)
    if arguments[0] in ("-V", "--version", "version"):
        print(f"pti {metadata.version('pti')}")
        sys.exit(0)
    if arguments[0] == "completion":
        sys.exit(_complete(arguments[1:]))
    verb = arguments[0].replace("-", "_")
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        print(f"Error: pti has no command '{arguments[0]}'.{hint}\n\n{_overview()}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"pti {verb}", *arguments[1:]]
    importlib.import_module(f"pti.{verb}.__main__").main()


def _complete(arguments: list[str]) -> int:
    """Print a shell's completion script, or what continues a command line; return the exit code."""
    from pti.cli.completion import completion

    text = completion(arguments, VERBS)
    if text is None:
        print('Usage: eval "$(pti completion bash)", or zsh instead of bash', file=sys.stderr)
        return 2
    print(text)
    return 0


def _overview() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:{width}}  {description}" for verb, description in VERBS.items()]
    usage = (
        "Usage: pti VERB key=value …   (pti VERB --help lists the keys; pti --version; pti completion bash)"
    )
    return "\n".join([usage, "", *lines])


if __name__ == "__main__":
    main()
