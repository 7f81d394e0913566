"""Do the tests of the fault page bite? Take a protection out of a copy of the program, and see its row fail.

``python tests/faults/mutations.py [NUMBER …]`` prints a table and exits with 1 if a row survives. A text that
is not in the source, a test that is not on the page, or one that ends otherwise than by failing, is an error:
exit 2, as is a row that fails on an unchanged copy.
"""

import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parents[1]
REPOSITORY = TESTS.parent
sys.path.insert(0, str(TESTS))

from helpers.fault_page import Fault, read_page  # noqa: E402
from helpers.forks import LIBRARIES, ForkServer  # noqa: E402


class Mutation(NamedTuple):
    """Replacement of a text that occurs once in a file of ``src/pti``, and a test that has to notice it."""

    what: str
    test: str
    file: str
    old: str
    new: str


_READER = "data/test_tif_faults.py::test_"
MUTATIONS = [
    Mutation(
        "a stack behind one directory is read as its first slice",
        "data/test_tif_meaning.py::test_stacks_behind_one_directory",
        "data/tif/checks.py",
        "if slices != 1:",
        "if False:",
    ),
    Mutation(
        "a header without pixels is accepted",
        f"{_READER}faults_of_other_files",
        "data/tif/checks.py",
        "if not height or not width or",
        "if",
    ),
    Mutation(
        "the end of the pixels is not compared with the file's",
        f"{_READER}every_truncation_is_detected",
        "data/tif/checks.py",
        "if end > directory.file_bytes:",
        "if False:",
    ),
    Mutation(
        "the declared size is not compared",
        f"{_READER}loops_false_sizes_and_bombs_are_rejected",
        "data/tif/checks.py",
        "if declared > max(16 * 2**20, MAX_RATIO * stored):",
        "if False:",
    ),
    Mutation(
        "a chain of pages may loop",
        "faults/test_data_set.py::test_a_loop_ends_within_a_second",
        "data/tif/reader.py",
        "if offset in offsets:",
        "if False:",
    ),
    Mutation(
        "NaN is not counted",
        f"{_READER}non_finite_pixels_are_counted",
        "data/tif/__init__.py",
        "if finite < pixels.size:",
        "if False:",
    ),
    Mutation(
        "the codec's package is not named",
        f"{_READER}compression_without_its_codec_names_the_package",
        "data/tif/checks.py",
        'find_spec("imagecodecs") is None',
        "False",
    ),
    Mutation(
        "links may leave the data root",
        "data/test_structure.py::test_links_that_leave_the_root_are_refused_and_not_opened",
        "data/layouts.py",
        "return not Path(resolve(path)).is_relative_to(resolve(root))",
        "return False",
    ),
    Mutation(
        "a file's time is not in the cache's key",
        "data/test_image_cache.py::test_any_change_makes_another_cache",
        "data/image_cache.py",
        "/{status.st_mtime_ns}",
        "",
    ),
    Mutation(
        "a loader process hides the error of a deleted file",
        "modules/test_tif_data.py::test_deleted_file_is_named_when_the_cache_is_off[2]",
        "data/loader.py",
        "except DataError as error:",
        "except KeyError as error:",
    ),
    Mutation(
        "a checkpoint is written in place",
        "faults/test_saves.py::test_a_kill_at_every_boundary_of_a_save[no hard links]",
        "train/callbacks/checkpoint_io.py",
        'path.with_name(f".{path.name}.{os.getpid()}.tmp")',
        "path",
    ),
    Mutation(
        "the replaced checkpoint is not kept",
        "train/test_train.py::test_a_damaged_checkpoint_is_replaced_loudly",
        "train/callbacks/checkpoint_io.py",
        "if storage_options and path.exists():",
        "if False:",
    ),
    Mutation(
        "nobody tries to write before the first step",
        "train/test_train.py::test_an_unwritable_folder_fails_before_the_first_step",
        "train/callbacks/checkpointing.py",
        "require_writable(self._folder)",
        "pass",
    ),
    Mutation(
        "a damaged checkpoint has no substitute",
        "runs/test_checkpoint.py::test_an_earlier_checkpoint_replaces_a_damaged_one",
        "runs/checkpoint.py",
        "for other in fallbacks(path):",
        "for other in ():",
    ),
    Mutation(
        "checksums are not compared",
        "runs/test_checkpoint.py::test_damage_is_noticed",
        "runs/checkpoint.py",
        "if damaged is not None:",
        "if False:",
    ),
    Mutation(
        "the weights of an exported model are not compared with their hash",
        "runs/test_exported.py::test_a_changed_byte_of_the_weights_is_noticed",
        "runs/exported.py",
        "if hash_file(path) != sha256:",
        "if False:",
    ),
    Mutation(
        "a killed loader process is a bare RuntimeError",
        "train/test_failures.py::test_the_death_of_a_loader_process_is_reported_through_wrappers",
        "train/failures.py",
        '"DataLoader worker" in str(cause)',
        "False",
    ),
    Mutation(
        "the number of batches is not restored",
        "train/test_resume.py::test_interrupted_run_ends_like_an_uninterrupted_one"
        "[default: mid-epoch, after the discriminator]",
        "modules/manual_optimization.py",
        'self.batches_seen = checkpoint["batches_seen"]',
        "self.batches_seen = 0",
    ),
    Mutation(
        "a resumed run may change its settings",
        "train/test_train.py::test_other_settings_are_refused_on_resume[seed=1-seed]",
        "train/resume.py",
        "if fixed or (changes and not allowed):",
        "if False:",
    ),
    Mutation(
        "weights of NaN are saved",
        "train/test_train.py::test_weights_of_nan_are_not_saved[on_validation_start]",
        "train/callbacks/checkpointing.py",
        "if not self._consensus.minimum(weights_are_finite(trainer.lightning_module)):",
        "if False:",
    ),
    Mutation(
        "the nearest key is not named",
        "faults/test_commands.py::test_a_mistake_ends_the_training_with_exit_2",
        "cli/suggestions.py",
        "{_nearest_key(key, keys)}",
        "",
    ),
    Mutation(
        "trainer.gradient_clip_val is passed on",
        "train/test_preflight.py::test_trainer_keys_that_belong_to_the_model[+-gradient_clip_val]",
        "train/preflight.py",
        'for key in ("gradient_clip_val", "accumulate_grad_batches"):',
        "for key in ():",
    ),
    Mutation(
        "EMA is updated in every step",
        "networks/test_ema.py::test_update_every_keeps_the_pace",
        "networks/ema.py",
        "if self.steps % self.update_every:",
        "if False:",
    ),
    Mutation(
        "pickles are executed",
        "runs/test_checkpoint.py::test_a_pickle_bomb_is_not_executed",
        "runs/checkpoint.py",
        '(path, size)\n        content = torch.load(path, map_location="cpu", weights_only=True)',
        '\n        content = torch.load(path, map_location="cpu", weights_only=False)',
    ),
    Mutation(
        "any _target_ is allowed",
        "runs/test_constructors.py::test_other_targets_are_refused",
        "runs/constructors.py",
        "isinstance(value, str) and value in CONSTRUCTORS",
        "isinstance(value, str)",
    ),
    Mutation(
        "arguments are not checked",
        "runs/test_constructors.py::test_unknown_arguments_are_refused",
        "runs/constructors.py",
        "        if unknown:\n            raise",
        "        if False:\n            raise",
    ),
    Mutation(
        "explore answers to any host",
        "explore/test_explore.py::test_serves_only_its_page",
        "explore/server.py",
        'app.config["TRUSTED_HOSTS"] = [name',
        'app.config["_"] = [name',
    ),
    Mutation(
        "the settings of a resumed optimizer are the checkpoint's",
        "train/test_changed_settings.py::test_stage_1_uses_the_changed_setting"
        "[model.generator_optimizer.lr=3e-3]",
        "modules/manual_optimization.py",
        "optimization.apply_settings(optimizer, settings)",
        "pass",
    ),
    Mutation(
        "a root that the user named is generated",
        "train/test_preflight.py::test_a_root_that_the_user_names_is_never_generated[smoke]",
        "train/preflight.py",
        'if root_is_named or config.data.get("generate") is None:',
        'if config.data.get("generate") is None:',
    ),
    Mutation(
        "shared memory is not measured",
        "train/test_shared_memory.py::test_too_little_shared_memory_is_refused",
        "data/loader.py",
        "if need > free:",
        "if False:",
    ),
    Mutation(
        "runs of the same second share a folder",
        "train/test_preflight.py::test_no_two_processes_create_the_same_folder",
        "common/files.py",
        "os.mkdir(path)",
        "path.mkdir(exist_ok=True)",
    ),
    Mutation(
        "empty values are accepted",
        "cli/test_command.py::test_an_empty_value_is_refused",
        "cli/overrides.py",
        "if not override.is_delete() and (not written or no_path):",
        "if False:",
    ),
]


class NotApplicableError(Exception):
    """A mutation that says nothing about its row."""


def mutated_source(mutation: Mutation) -> str:
    """Return the text of the mutation's file without the protection."""
    path = REPOSITORY / "src" / "pti" / mutation.file
    source = path.read_text(encoding="utf-8") if path.is_file() else ""
    if (times := source.count(mutation.old)) != 1:
        raise NotApplicableError(
            f"src/pti/{mutation.file} holds {mutation.old!r} {times} times, expected once"
        )
    mutated = source.replace(mutation.old, mutation.new)
    compile(mutated, path, "exec")
    return mutated


def copy_of_program(folder: Path, mutation: Mutation | None) -> Path:
    """Copy ``src`` and apply the mutation; ``conf`` has to lie beside it."""
    shutil.copytree(REPOSITORY / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "conf").symlink_to(REPOSITORY / "conf")
    if mutation is not None:
        path = folder / "src" / "pti" / mutation.file
        path.write_text(mutated_source(mutation), encoding="utf-8")
    return folder / "src"


def outcome(server: ForkServer, mutation: Mutation | None, tests: list[str]) -> tuple[bool, str]:
    """Run tests on a copy of the program; return whether they passed, and the first failure.

    Args:
        server: Server that has not imported pti.
        mutation: Mutation of the copy.
        tests: The tests.
    """
    with tempfile.TemporaryDirectory(prefix="pti_mutation_") as name:
        source = copy_of_program(Path(name), mutation)
        variables = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        require_copy(server, source, variables)
        options = ["-m", "", "-n0", "-x", "-q", "-p", "no:cacheprovider", f"--basetemp={name}/tmp"]
        command = ["pytest", *options, *(f"tests/{test}" for test in tests)]
        with server.start(REPOSITORY, *command, environment=variables) as running:
            output, _ = running.communicate()
    lines = output.splitlines()
    if running.wait() not in (0, 1):
        raise NotApplicableError("\n".join([f"pytest ended with {running.wait()}", *lines[-20:]]))
    reason = next((line[1:].strip() for line in lines if line.startswith("E  ")), "")
    if reason.startswith("Failed: Timeout"):
        raise NotApplicableError(f"{tests} took too long: {reason}")
    return running.wait() == 0, reason


def require_copy(server: ForkServer, source: Path, variables: dict[str, str]) -> None:
    """Refuse a mutation if Python would import another pti than the copy."""
    (source / "which_pti.py").write_text("import pti; print(pti.__file__)")
    with server.start(source, "which_pti", environment=variables) as running:
        found = running.communicate()[0].strip()
    if not Path(found).is_relative_to(source):
        raise NotApplicableError(f"{found} was imported, expected the copy in {source}")


def row_of(mutation: Mutation) -> Fault:
    """Find the row of the page that holds the mutation's test."""
    for name in (mutation.test, mutation.test.split("[")[0]):
        for fault in read_page():
            if name in fault.tests:
                return fault
    raise NotApplicableError(f"{mutation.test} is not on the page")


def report(server: ForkServer, mutation: Mutation) -> tuple[int, str]:
    """Return the exit code that a mutation asks for, and its line of the table."""
    try:
        fault = row_of(mutation)
        survived, reason = outcome(server, mutation, [mutation.test])
    except (NotApplicableError, SyntaxError) as error:
        return 2, f"     ERROR     {mutation.what}: {error}"
    result = "SURVIVED" if survived else "killed"
    return int(survived), f"{fault.number:4} {result:9} {fault.phrase} — {mutation.what} — {reason[:70]}"


def main(numbers: list[str]) -> int:
    mutations = [mutation for mutation in MUTATIONS if not numbers or row_of(mutation).number in numbers]
    code = 0
    with (
        ForkServer({**os.environ, "OMP_NUM_THREADS": "1"}, (*LIBRARIES, "pytest")) as server,
        ThreadPoolExecutor(max_workers=os.cpu_count()) as pool,
    ):
        unchanged = pool.submit(outcome, server, None, [mutation.test for mutation in mutations])
        for result, line in pool.map(partial(report, server), mutations):
            print(line, flush=True)
            code = max(code, result)
        try:
            passed, reason = unchanged.result()
        except NotApplicableError as error:
            passed, reason = False, str(error)
    rows = {row_of(mutation).number for mutation in mutations}
    print(f"{len(mutations)} protections taken out of {len(rows)} rows")
    if not passed:
        print(f"ERROR: the unchanged program fails, too: {reason}")
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
