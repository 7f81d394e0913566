"""A SLURM of shell scripts: sbatch starts the tasks of a job in the background, on this machine."""

import os
from pathlib import Path

_COMMANDS = {
    "sbatch": """
if [ -e "$state/refuse" ]; then echo "sbatch: error: invalid partition" >&2; exit 1; fi
array=
case $1 in --array=*) array=${1#--array=}; shift ;; esac
job=$(($(ls -d "$state"/job_* 2>/dev/null | wc -l) + 77))
mkdir "$state/job_$job"
cp "$1" "$state/job_$job/script"
array=${array:-$(sed -n 's/^#SBATCH --array=\\([0-9-]*\\).*/\\1/p' "$1")}
last=${array#0-}
shift
for index in $(seq 0 "${last:-0}"); do
    id=$job; [ -z "$last" ] || id=${job}_$index
    echo PENDING >"$state/$id"
    setsid "$(dirname "$0")/task" "$id" "$index" "$@" </dev/null >/dev/null 2>&1 &
done
echo "Submitted batch job $job"
""",
    "task": """
id=$1 index=$2 restarts=0
shift 2
export SLURM_JOB_ID=${id%_*} SLURM_JOB_NAME=train SLURM_NTASKS=1 SLURM_NNODES=1
case $id in *_*) export SLURM_ARRAY_JOB_ID=${id%_*} SLURM_ARRAY_TASK_ID=${id#*_} ;; esac
if [ -e "$state/cancel_$index" ]; then echo CANCELLED by 0 >"$state/$id"; exit; fi
while [ -e "$state/hold" ]; do sleep 0.2; done
while :; do
    echo RUNNING >"$state/$id"
    code=0
    SLURM_RESTART_COUNT=$restarts bash "$state/job_$SLURM_JOB_ID/script" "$@" || code=$?
    [ -e "$state/requeue_$id" ] || break
    rm "$state/requeue_$id"
    restarts=$((restarts + 1))
done
[ $code = 0 ] && echo COMPLETED >"$state/$id" || echo FAILED >"$state/$id"
""",
    "srun": """
out=$state/log_%j_%a err=
while :; do
    case $1 in
        --unbuffered) shift ;;
        --output) out=$2; shift 2 ;;
        --error) err=$2; shift 2 ;;
        *) break ;;
    esac
done
fill() {
    echo "$1" | sed "s/%A/$SLURM_ARRAY_JOB_ID/g;s/%a/$SLURM_ARRAY_TASK_ID/g;s/%j/$SLURM_JOB_ID/g;s/%t/0/g"
}
export SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0
exec "$@" >>"$(fill "$out")" 2>>"$(fill "${err:-$out}")"
""",
    "scontrol": """
echo "$2" >>"$state/requeued.txt"
touch "$state/requeue_$2"
""",
    "sacct": """
echo "JobID|State|NodeList"
for file in "$state"/[0-9]*; do echo "$(basename "$file")|$(cat "$file")|here"; done
""",
}


class FakeSlurm:
    """The commands, in ``folder/bin``, and the state of the queue, in files of ``folder``.

    Attributes:
        path: Value of ``PATH`` with the commands.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        (folder / "bin").mkdir(parents=True)
        for name, text in _COMMANDS.items():
            command = folder / "bin" / name
            command.write_text(f"#!/usr/bin/env bash\nstate='{folder}'\n{text}")
            command.chmod(0o755)

    def refuse(self, switch: bool) -> None:
        """Let sbatch refuse all jobs, or no longer."""
        self._switch("refuse", switch)

    def hold(self, switch: bool) -> None:
        """Keep all jobs in the queue, or let them start."""
        self._switch("hold", switch)

    def cancel(self, index: int) -> None:
        """Cancel this task of each array before it starts."""
        self._switch(f"cancel_{index}", True)

    @property
    def submitted(self) -> int:
        """Number of calls of sbatch that were successful."""
        return len(list(self.folder.glob("job_*")))

    @property
    def script(self) -> str:
        """The first script that sbatch was given."""
        return (self.folder / "job_77" / "script").read_text()

    @property
    def states(self) -> dict[str, str]:
        """State of each job or task, by its id."""
        return {path.name: path.read_text().strip() for path in self.folder.glob("[0-9]*")}

    @property
    def requeued(self) -> list[str]:
        """Jobs that were requeued."""
        return (self.folder / "requeued.txt").read_text().split()

    def _switch(self, name: str, switch: bool) -> None:
        if switch:
            (self.folder / name).touch()
        else:
            (self.folder / name).unlink()
