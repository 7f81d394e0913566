"""Completion of ``pti`` command lines in a shell: verbs, groups and their options, keys.

Hydra's own completion knows neither ``python -m`` nor verbs. After the ``=`` of any other key than a group's,
the list is empty, so that the shell completes file names.
"""

from collections.abc import Iterable, Sequence

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pti.cli.suggestions import is_group
from pti.common import conf_dir
from pti.common.nested import flatten

_BASH = """\
# Completion of pti in bash: eval "$(pti completion bash)"
_pti() {
    local line="${COMP_LINE:0:COMP_POINT}" IFS=$'\\n'
    COMPREPLY=($(pti completion words "$line" 2>/dev/null))
    local word="${line##* }"
    if [[ "$word" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%=*}="}")
    fi
}
complete -o nospace -o default -F _pti pti
"""
_ZSH = """\
# Completion of pti in zsh: eval "$(pti completion zsh)"
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_pti() {
    local -a found=("${(@f)$(pti completion words "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    found=(${found:#})
    if (( $#found )); then
        compadd -S '' -a found
    else
        compset -P '*='
        _files
    fi
}
compdef _pti pti
"""
_SHELLS = {"bash": _BASH, "zsh": _ZSH}
_OPTIONS = ("--cfg", "--help", "--multirun", "--resolve")


def completion(arguments: Sequence[str], verbs: Iterable[str]) -> str | None:
    """Answer ``pti completion …``.

    Args:
        arguments: A shell, for its script; or ``words`` and the command line up to the cursor.
        verbs: The verbs.

    Returns:
        The script, or one word a line; None if the arguments are neither.
    """
    if len(arguments) == 2 and arguments[0] == "words":
        return "\n".join(complete(arguments[1], verbs))
    return _SHELLS.get(arguments[0]) if len(arguments) == 1 else None


def complete(line: str, verbs: Iterable[str]) -> list[str]:
    """List the words that continue a command line, sorted.

    Args:
        line: ``pti VERB key=value …`` up to the cursor.
        verbs: The verbs.
    """
    *before, word = line.split(" ")
    before = [text for text in before if text]
    if len(before) < 2:
        candidates = [*verbs, "completion"]
    elif before[1] == "completion":
        candidates = list(_SHELLS)
    elif before[1] not in verbs:
        candidates = []
    elif word.startswith("-"):
        candidates = list(_OPTIONS)
    elif "=" in word:
        candidates = _values(word.split("=")[0])
    else:
        candidates = _keys(before[1], [text for text in before[2:] if not text.startswith("-")], word)
    return sorted({candidate for candidate in candidates if candidate.startswith(word)})


def _values(key: str) -> list[str]:
    if not is_group(key):
        return []
    return [f"{key}={file.stem}" for file in (conf_dir.CONF_DIR / key).glob("*.yaml")]


def _keys(verb: str, overrides: list[str], word: str) -> list[str]:
    """List the groups of a verb, and its keys down to the part that ``word`` is about to name."""
    with initialize_config_dir(str(conf_dir.CONF_DIR), version_base="1.3"):
        try:
            config = compose(verb, overrides, return_hydra_config=True)
        except Exception:  # whatever is wrong in the line so far: keys of the defaults are better than none
            config = compose(verb, return_hydra_config=True)
    chosen = {group.split("/")[0] for group in config.hydra.runtime.choices} - {"hydra"}
    folders = [path.relative_to(conf_dir.CONF_DIR) for path in conf_dir.CONF_DIR.rglob("*") if path.is_dir()]
    groups = [f"{folder.as_posix()}=" for folder in folders if folder.parts[0] in chosen]
    values = OmegaConf.to_container(config)
    assert isinstance(values, dict)
    del values["hydra"]
    parts = word.count(".") + 1
    keys = []
    for key, value in flatten({str(key): value for key, value in values.items()}).items():
        if key.count(".") + 1 == parts and "_target_" not in key and "_partial_" not in key:
            keys.append(f"{key}." if isinstance(value, dict) and value else f"{key}=")
    return [*groups, *keys]
