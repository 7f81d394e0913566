"""The console script ``pti VERB key=value …``: the same commands as ``python -m pti.VERB``."""

import difflib
import importlib
import sys
from importlib import metadata

VERBS = {
    "demo": "the whole story on the phantom, or on your own pairs, told on one page (15 to 30 minutes)",
    "make_phantom": "write the phantom data set: paired jaw cross-sections with known bone",
    "check": "examine a data set and write a report; exit 1 when it can't be trained on",
    "train": "train what the experiment picks",
    "reconstruct": "send images through a trained VAE",
    "translate": "sample the edente images of dente images",
    "evaluate": "measure a checkpoint, or anybody's images, against the truth, and write a report",
    "analyze": "draw a VAE's latent space and measure it: pictures, tables, one page",
    "explore": "walk through a VAE's latent space in the browser",
    "benchmark": "measure this machine, stage by stage, against the plain way of doing it",
}


def main() -> None:
    """Run one verb, or list them all.

    Ends the process with the verb's exit code; 2 when there is no such verb.
    """
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        sys.exit(0)
    if arguments[0] in ("-V", "--version", "version"):
        print(f"pti {metadata.version('pti')}")
        sys.exit(0)
    verb = arguments[0].replace("-", "_")
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        print(f"Error: pti has no command '{arguments[0]}'.{hint}\n\n{_overview()}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"pti {verb}", *arguments[1:]]
    importlib.import_module(f"pti.{verb}.__main__").main()


def _overview() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:{width}}  {what}" for verb, what in VERBS.items()]
    usage = "Usage: pti VERB key=value …   (pti VERB --help lists the keys; pti --version)"
    return "\n".join([usage, "", *lines])


if __name__ == "__main__":
    main()
