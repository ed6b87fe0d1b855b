"""Runs fairseq-generate several times in one process: decode_all.py JOBS.json.

A job is ``{"arguments": [...], "output": FILE}``. Prints, as JSON, the safe-loading classes that
were allow-listed before the first job and whether this project was imported by any of them.
"""

import contextlib
import json
import sys
from pathlib import Path

import torch
from fairseq_cli import generate


def main() -> None:
    allowed = [entry.__module__ for entry in torch.serialization.get_safe_globals()]
    for job in json.loads(Path(sys.argv[1]).read_text()):
        arguments, sys.argv[1:] = sys.argv[1:], job["arguments"]
        with open(job["output"], "w") as file, contextlib.redirect_stdout(file):
            generate.cli_main()
        sys.argv[1:] = arguments
    print(json.dumps({"allowed": allowed, "imported": "tsa_mt" in sys.modules}))


if __name__ == "__main__":
    main()
