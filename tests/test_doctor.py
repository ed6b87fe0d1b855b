"""``tsa-mt doctor`` sees what is wrong and says what mends it."""

from argparse import Namespace

import pytest
import torch

from tsa_mt import compat, doctor


@pytest.fixture
def versions(monkeypatch):
    """The installed distributions, to be changed by a test."""
    names = (*doctor.REQUIRED, *doctor.OPTIONAL, "fairseq-fixed", "omegaconf")
    found = dict.fromkeys(names, "1.0")
    monkeypatch.setattr(doctor, "installed_version", lambda name: found.get(name, ""))
    return found


def test_the_installation_under_test_lacks_nothing():
    findings = [
        doctor.check_torch(), doctor.check_fairseq(), doctor.check_omegaconf(),
        doctor.check_plugin(), *doctor.check_packages(),
    ]  # fmt: skip
    assert not [finding for finding in findings if finding.mend]


def test_the_report_names_every_fix_with_its_state_and_its_reason(capsys):
    doctor.run(Namespace())
    printed = capsys.readouterr().out
    for fix in compat.FIXES:
        assert f"  {fix.name:18} {compat.status()[fix.name]:11} {fix.why}" in printed


def test_something_wrong_is_said_with_its_mend_and_status_1(monkeypatch, capsys):
    finding = doctor.Finding("torch", "2.5.1", "pip install 'torch>=2.6'")
    monkeypatch.setattr(doctor, "examine", lambda: [finding])
    assert doctor.run(Namespace()) == 1
    assert "WRONG  torch: 2.5.1\n  mend: pip install 'torch>=2.6'\n" in capsys.readouterr().out


def test_nothing_wrong_is_status_0(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Finding("torch", "2.13.0")])
    assert doctor.run(Namespace()) == 0
    assert capsys.readouterr().out.endswith("nothing is wrong\n")


@pytest.mark.parametrize(
    ("version", "wrong"),
    [("2.5.1", True), ("1.13.0", True), ("2.6.0", False), ("2.13.0+cpu", False), ("3.0", False)],
)
def test_a_torch_before_2_6_is_wrong(version, wrong, monkeypatch):
    monkeypatch.setattr(torch, "__version__", version)
    assert bool(doctor.check_torch().mend) == wrong


@pytest.mark.parametrize(
    ("version", "wrong"), [("", True), ("2.0.6", False), ("2.3.0", False), ("2.4.0", True)]
)
def test_an_omegaconf_that_fairseq_cannot_use_is_wrong(version, wrong, versions):
    versions["omegaconf"] = version
    mend = doctor.check_omegaconf().mend
    assert mend == ("pip install omegaconf==2.3.0" if wrong else "")


def test_two_fairseqs_in_one_environment_are_wrong(versions):
    versions["fairseq"] = "0.12.2"
    finding = doctor.check_fairseq()
    assert finding.value == "fairseq-fixed 1.0 and fairseq 0.12.2 overwrite each other's files"
    assert finding.mend.startswith("pip uninstall -y fairseq fairseq-fixed && pip install ")


def test_a_fairseq_on_the_path_is_enough(versions):
    del versions["fairseq-fixed"]
    assert doctor.check_fairseq() == doctor.Finding("fairseq", "found on the path, not installed")


def test_a_missing_requirement_is_wrong_and_a_missing_extra_is_not(versions):
    del versions["sacrebleu"], versions["ctranslate2"]
    found = {finding.subject: finding for finding in doctor.check_packages()}
    assert found["sacrebleu"].mend == "pip install sacrebleu"
    assert found["ctranslate2"].mend == ""
    assert "pip install tsa-mt[deploy]" in found["ctranslate2"].value


def test_an_unregistered_plugin_is_wrong(monkeypatch):
    from fairseq import criterions

    monkeypatch.setattr(criterions, "CRITERION_REGISTRY", {})
    assert doctor.check_plugin().mend == "reinstall tsa-mt: pip install --no-deps ."


def test_a_gpu_is_described_with_its_bf16(monkeypatch):
    device = Namespace(name="A card", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: device)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert list(doctor.check_devices()) == [
        doctor.Finding("GPU 0", "A card, 80 GiB"),
        doctor.Finding("bf16", "not on this GPU"),
    ]


def test_a_gpu_that_torch_cannot_use_is_wrong(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.Path, "exists", lambda path: str(path) == "/dev/nvidia0")
    (finding,) = doctor.check_devices()
    assert "there is one, and torch" in finding.value
    assert "install a torch with CUDA" in finding.mend


def test_a_missing_compiler_is_said_and_not_wrong(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    finding = doctor.check_compiler()
    assert finding.value == "not found; only building fairseq from source needs it"
    assert not finding.mend
