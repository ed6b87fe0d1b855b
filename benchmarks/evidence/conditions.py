"""What a run was trained under, so that commits and machines are never mixed unseen."""

import os
from importlib import metadata
from pathlib import Path
from typing import Dict, List

FAMILIES = {"23": "Zen or Zen 2", "25": "Zen 3 or Zen 4", "26": "Zen 5"}
"""AMD's families; a model name such as "AMD EPYC" does not tell them apart."""
EXTENSIONS = {"avx512f": "AVX-512", "avx512_bf16": "bfloat16", "amx_bf16": "AMX"}


def conditions() -> Dict[str, str]:
    """Commit of this checkout, CPU, torch and threads.

    Raises:
        ValueError: Files of the checkout were changed, so that its commit says nothing, or it is
            no checkout.
    """
    from tsa_mt.evaluate.run_facts import commit

    name = commit()
    if name is None or name.endswith("+"):
        raise ValueError(
            f"this checkout is at commit {name}: evidence needs a commit without changes; commit "
            f"them, or run from another worktree (git worktree add --detach)"
        )
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return {"commit": name, "cpu": cpu(), "torch": metadata.version("torch"), "threads": threads}


def cpu(path: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU in words: model, family, and the extensions that decide its speed here."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return "unknown"
    pairs = (line.partition(":") for line in lines)
    facts = {key.strip(): value.strip() for key, _, value in pairs}
    family = facts.get("cpu family", "unknown")
    is_known = facts.get("vendor_id") == "AuthenticAMD" and family in FAMILIES
    known = f" ({FAMILIES[family]})" if is_known else ""
    flags = facts.get("flags", "").split()
    found = [name for flag, name in EXTENSIONS.items() if flag in flags]
    return ", ".join([facts.get("model name", "unknown"), f"family {family}{known}", *found])


def differences(one: Dict[str, str], other: Dict[str, str]) -> List[str]:
    """In what two runs' conditions differ, in words."""
    return [
        f"{name} {one.get(name)!r} against {other.get(name)!r}"
        for name in ("commit", "cpu", "torch", "threads")
        if one.get(name) != other.get(name)
    ]
