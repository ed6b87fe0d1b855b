"""A method in a user's own --user-dir: its flags, its help, its training and its record."""

import json
import re

METHOD = re.compile(r"```python\n(.*?)```", re.DOTALL)

PROGRAM = """
import sys
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli.train import main

def parse(*arguments):
    sys.argv[1:] = arguments  # where fairseq looks for --user-dir
    parser = options.get_training_parser()
    return parser, options.parse_args_and_arch(parser, sys.argv[1:])

for arch in ("tree_transformer", "tree_classifier"):  # read by way of the store of configs
    _, args = parse(*PLUGIN, "--arch", arch, "--kd-fading-share", ".5")
    assert convert_namespace_to_omegaconf(args).model.kd_fading_share == 0.5, arch
parser, args = parse(*COMMAND, "--kd-fading-share", ".5")
print(" ".join(parser.format_help().split()))
main(convert_namespace_to_omegaconf(args))
"""


def test_the_method_of_the_page_has_flags_help_and_a_record(
    root, tiny_data, command, python, tmp_path
):
    page = (root / "docs" / "own-methods.md").read_text(encoding="utf-8")
    (source,) = METHOD.findall(page)
    folder, save = tmp_path / "my_methods", tmp_path / "out"
    folder.mkdir()
    (folder / "__init__.py").write_text(source, encoding="utf-8")
    arguments = command(
        *(tiny_data, save, "--user-dir", folder, "--kd-objective", "fading", "--max-update", 2),
        *("--tree", "1(1,1)", "--decoder-layers", 2),
    )
    plugin = [str(tiny_data), "--user-dir", str(folder), "--criterion", "online_kd"]
    done = python("-c", f"COMMAND, PLUGIN = {arguments!r}, {plugin!r}\n{PROGRAM}")
    shown = "--kd-fading-share KD_FADING_SHARE share of the leaf's own past in what it imitates"
    assert f"{shown} [unset = published value; 0.9]" in done.stdout
    assert "what the leaves learn: ahbf" in done.stdout and ", tsa, fading" in done.stdout
    method = json.loads((save / "run.json").read_text(encoding="utf-8"))["method"]
    assert method["objective"] == "fading"
    assert method["options"]["fading_share"] == 0.5
