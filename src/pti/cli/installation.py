"""Packages that don't fit together, as one message instead of a traceback."""

from importlib.metadata import version

from pti.common.errors import UsageError, with_causes


def installation_error(error: BaseException) -> UsageError | None:
    """Explain a torchvision that was built for another torch; None for any other error.

    Lightning imports torchvision if it is installed, so that such a build stops every command.
    """
    if not any("torchvision::" in str(cause) for cause in with_causes(error)):
        return None
    return UsageError(
        f"torchvision {version('torchvision')} is built for another torch than {version('torch')}, and no "
        "command works beside it. Install the build that fits (https://pytorch.org/get-started/locally), or "
        "run `python -m pip uninstall torchvision`: only model/perceptual=lpips and radimagenet need it."
    )
