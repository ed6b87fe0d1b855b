"""Archives are unpacked by what the recipe asks for, never by what they ask for."""

import io
import tarfile
import zipfile

import pytest
from dataprep.errors import DataError
from dataprep.unpack import archive_stem, unpack


def tar_with(path, *members, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content, kind in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_only_the_wanted_member_of_a_tar_is_unpacked(tmp_path, mode):
    path = tar_with(
        tmp_path / "a.tgz",
        ("./x/a.de", b"eins\n", tarfile.REGTYPE),
        ("x/b.de", b"zwei\n", tarfile.REGTYPE),
        mode=mode,
    )
    unpack(path, {"x/a.de": tmp_path / "out" / "a.de"}, 100)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.de"]
    assert (tmp_path / "out" / "a.de").read_bytes() == b"eins\n"


def test_a_zip_is_unpacked_whatever_its_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.tgz", "w") as archive:
        archive.writestr("x/a.de", "eins\n")
    unpack(tmp_path / "a.tgz", {"x/a.de": tmp_path / "a.de"}, 100)
    assert (tmp_path / "a.de").read_text() == "eins\n"


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "x/../../evil"])
def test_an_archive_that_points_outside_is_refused(tmp_path, name):
    (tmp_path / "in").mkdir()
    path = tar_with(
        tmp_path / "in" / "a.tgz", (name, b"evil", tarfile.REGTYPE), ("a.de", b"x", tarfile.REGTYPE)
    )
    with pytest.raises(DataError, match="points outside of the archive"):
        unpack(path, {"a.de": tmp_path / "out" / "a.de"}, 100)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["a.tgz"]


def test_a_zip_that_points_outside_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../evil", "evil")
    with pytest.raises(DataError, match=r"a\.zip holds the member '\.\./evil', which points"):
        unpack(tmp_path / "a.zip", {"evil": tmp_path / "out"}, 100)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_a_member_that_is_a_link_or_a_device_is_refused(tmp_path, kind):
    path = tar_with(tmp_path / "a.tgz", ("a.de", b"", kind))
    with pytest.raises(DataError, match=r"a\.tgz//a\.de is a link or a device"):
        unpack(path, {"a.de": tmp_path / "out"}, 100)
    assert not (tmp_path / "out").exists()


def test_a_symbolic_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("a.de")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match=r"a\.zip//a\.de is a link"):
        unpack(tmp_path / "a.zip", {"a.de": tmp_path / "out"}, 100)


def test_a_member_larger_than_the_limit_is_refused_and_leaves_nothing(tmp_path):
    path = tar_with(tmp_path / "bomb.tgz", ("a.de", b"0" * 5000, tarfile.REGTYPE))
    with pytest.raises(DataError, match="unpacks to more than 4,000 bytes.*unpack_limit_gb"):
        unpack(path, {"a.de": tmp_path / "out" / "a.de"}, 4000)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_member_is_named(tmp_path):
    path = tar_with(tmp_path / "a.tgz", ("a.de", b"x", tarfile.REGTYPE))
    with pytest.raises(DataError, match=r"a\.tgz does not hold b\.de; is it another release"):
        unpack(path, {"a.de": tmp_path / "a", "b.de": tmp_path / "b"}, 100)


def test_a_cut_archive_is_refused(tmp_path):
    path = tar_with(tmp_path / "a.tgz", ("a.de", bytes(range(256)) * 400, tarfile.REGTYPE))
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(DataError, match=r"a\.tgz is cut off or no archive"):
        unpack(path, {"a.de": tmp_path / "a"}, 10**6)


def test_archives_are_told_from_compressed_files_by_their_ending():
    assert archive_stem("x.tar.gz") == archive_stem("x.tgz") == archive_stem("x.zip") == "x"
    assert archive_stem("train.en.gz") is None
