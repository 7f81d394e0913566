"""A program in place of a trial's training: it takes milliseconds, and its metrics follow from its settings.

``toy_training.py PARENT key=value …`` writes ``metrics.csv`` epoch by epoch, then ``summary.json``. It
continues an interrupted run, ends with 143 on SIGTERM and with its parent, and fails as the file ``broken``
in the search's folder says.
"""

import json
import math
import os
import signal
import sys
import time
from pathlib import Path

EPOCHS = 4


def metrics_of(kl_weight: float, loss: str, epoch: int) -> dict[str, float]:
    """Return the metrics of an epoch: the error has its minimum at 1e-6, the KL falls with the weight."""
    error = (math.log10(kl_weight) + 6) ** 2 + (1.0 if loss == "l1" else 0.0)
    return {"val/l1": error + 1.0 / (epoch + 1), "val/kl": -math.log10(kl_weight)}


def main() -> None:
    """Act as ``python -m pti.train``."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parent = int(sys.argv[1])
    settings = dict(text.lstrip("+").split("=", 1) for text in sys.argv[2:])
    folder = Path(settings["output_dir"].strip("'\""))
    broken = folder.parent / "broken"
    trouble = json.loads(broken.read_text()) if broken.exists() else {}
    what = trouble.get(folder.name, trouble.get("all", ""))
    if what == "usage":
        print("\nError: data.root: expected a folder, found nothing.", flush=True)
        sys.exit(2)
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    loss = settings.get("model/reconstruction", "l2")
    table = folder / "metrics.csv"
    rows = table.read_text().splitlines() if table.exists() else ["epoch,step,val/l1,val/kl"]
    for epoch in range(len(rows) - 1, EPOCHS):
        time.sleep(float(os.environ.get("TOY_SECONDS", 0)))
        if os.getppid() != parent:
            sys.exit(143)
        if what in ("diverged", "collapsed") and epoch == 1:
            fail(folder, what)
        metrics = metrics_of(float(settings["model.kl_weight"]), loss, epoch)
        rows.append(",".join(map(str, (epoch, epoch, *metrics.values()))))
        temporary = table.with_suffix(".tmp")
        temporary.write_text("\n".join(rows) + "\n")
        temporary.replace(table)
    metrics = metrics_of(float(settings["model.kl_weight"]), loss, EPOCHS - 1)
    figures = {f"best/{name}": None if what == "nan" else value for name, value in metrics.items()}
    (folder / "summary.json").write_text(json.dumps({"status": "finished", "figures": figures}))


def fail(folder: Path, what: str) -> None:
    """End as a training that has diverged or collapsed."""
    collapsed = "its outputs are all alike" if what == "collapsed" else ""
    (folder / "summary.json").write_text(json.dumps({"status": "failed", "collapsed": collapsed}))
    print("\nError: loss is not finite after batch 3.", flush=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
