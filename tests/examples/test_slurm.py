"""The job script for Slurm, with stand-ins for Slurm's commands and for the training."""

import os
import subprocess

import pytest

SRUN = '#!/bin/sh\nshift\nexec "$@"\n'
NOTE = '#!/bin/sh\necho "$(basename "$0") $*" >> "$NOTES"\n'


@pytest.fixture
def job(root, tmp_path):
    """Runs the script; its exit status, and which commands it gave."""

    def run(status, *options, **environment):
        notes = tmp_path / "notes"
        ends = f"{NOTE}exit {status}\n"
        programs = {
            "srun": SRUN,
            "scontrol": NOTE,
            "fairseq-train": ends,
            "tsa-mt": "#!/bin/sh\necho U\n",
        }
        (tmp_path / "bin").mkdir()
        for name, text in programs.items():
            (tmp_path / "bin" / name).write_text(text)
            (tmp_path / "bin" / name).chmod(0o755)
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        known = {
            **os.environ,
            "PATH": path,
            "NOTES": str(notes),
            "SLURM_JOB_ID": "7",
            **environment,
        }
        script = root / "examples" / "slurm" / "train.sbatch"
        done = subprocess.run(["bash", script, "data-bin", "runs", *options], env=known)
        return done.returncode, notes.read_text().splitlines()

    return run


def test_a_training_that_was_stopped_goes_back_into_the_queue(job):
    status, notes = job(75, "--arch", "a")
    assert status == 0
    assert notes == [
        "fairseq-train data-bin --user-dir U --save-dir runs --arch a",
        "scontrol requeue 7",
    ]


@pytest.mark.parametrize("status", [0, 1, 70, 74])
def test_a_training_that_ended_otherwise_ends_the_job(status, job):
    assert job(status)[0] == status


def test_an_array_trains_a_seed_each_on_all_workers(job):
    array = {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2", "SLURM_NTASKS": "8"}
    _, notes = job(75, **array)
    assert notes == [
        "fairseq-train data-bin --user-dir U --save-dir runs/seed2 --seed 2 "
        "--distributed-world-size 8 --distributed-port 20007",
        "scontrol requeue 5_2",
    ]
