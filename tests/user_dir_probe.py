"""Gives fairseq one --user-dir after another, each in a forked child, and prints what it imports.

Called by test_user_dir.py as a program of its own, with a JSON list of cases, each an object with
``cwd``, ``user_dir``, ``imported`` (whether tsa_mt is imported before) and ``site`` (a folder of
site-packages to use, or null). Prints the list of outcomes: the folder of the tsa_mt that fairseq
has then, or the error.
"""

import json
import multiprocessing
import os
import site
import sys

FORK = multiprocessing.get_context("fork")


def parse(user_dir):
    """What every console script of fairseq does first, twice: in its parser and in its main."""
    from argparse import Namespace

    from fairseq import options, utils

    sys.argv = ["fairseq-train", "data", "--user-dir", user_dir]
    parser = options.get_training_parser()
    flags = ["--arch", "tree_transformer_tiny", "--criterion", "online_kd"]
    args = options.parse_args_and_arch(parser, [*sys.argv[1:], *flags])
    utils.import_user_module(Namespace(user_dir=args.user_dir))
    return os.path.realpath(os.path.dirname(sys.modules["tsa_mt"].__file__))


def forget_editable_install():
    """Takes back what the environment's own editable install of tsa_mt has done at start-up.

    Such an install is either a finder or a line of a .pth file, which is a folder in sys.path.
    """
    checkout = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [path for path in sys.path if os.path.realpath(path) != checkout]
    sys.meta_path[:] = [f for f in sys.meta_path if "tsa_mt" not in getattr(f, "__module__", "")]
    for name in [name for name in sys.modules if name.startswith("__editable___tsa_mt")]:
        del sys.modules[name]


def try_case(case, answer):
    """One case in a child process; puts its outcome on a queue."""
    os.dup2(2, 1)
    os.chdir(case["cwd"])
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(__file__)]
    forget_editable_install()
    if case["site"]:
        sys.path.insert(0, case["site"])  # its finder has the name of the environment's own
        site.addsitedir(case["site"])
    try:
        if case["imported"]:
            import tsa_mt  # noqa: F401
        answer.put(parse(case["user_dir"]))
    except (Exception, SystemExit) as error:
        answer.put(f"{type(error).__name__}: {error}")


def main(cases):
    """Runs the cases and prints their outcomes."""
    import fairseq  # noqa: F401

    outcomes = []
    for case in cases:
        answer = FORK.SimpleQueue()
        process = FORK.Process(target=try_case, args=(case, answer))
        process.start()
        outcomes.append(answer.get())
        process.join()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
