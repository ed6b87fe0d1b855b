"""Freed memory that stays with the process."""

import platform
import sys

import pytest

SCRIPT = """
import resource, torch
from tsa_mt.memory import keep_freed_memory
assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        first, second = torch.empty(2**22).fill_(1), torch.empty(2**22).fill_(1)
        del first, second
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="needs glibc"
)
def test_blocks_that_are_taken_again_cost_no_pages(python):
    assert int(python("-c", SCRIPT).stdout) < 1000  # 160,000 pages are written


def test_another_system_is_left_alone(monkeypatch):
    from tsa_mt.memory import keep_freed_memory

    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
