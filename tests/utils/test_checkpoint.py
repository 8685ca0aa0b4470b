"""Files of tensors: what is no such file gets its own cure, and nothing that is loaded can run code."""

import io
import tarfile
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from utils.checkpoint import CheckpointError, load_checkpoint, parse_checkpoint, save_checkpoint
from utils.files import WriteError


def archive_tar(mode):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as file:
        info = tarfile.TarInfo("model.pth")
        info.size = 3
        file.addfile(info, io.BytesIO(b"abc"))
    return stream.getvalue()


def archive_zip():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("model.pth", b"x" * 100)
    return stream.getvalue()


def pickled(value, **options):
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('boom')",))


HTML = b"\n<!DOCTYPE html><html><head><title>Virus scan warning</title></head></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
BROKEN = {
    "empty": (b"", "is empty"),
    "html": (HTML, "is a web page, not weights. Open the link in a browser"),
    "lfs": (LFS, "is a Git LFS pointer, not the file itself. Run `git lfs pull`"),
    "json": (b'{"error": "Not Found"}', "is JSON text"),
    "zip": (archive_zip(), "is an archive of 1 files. Unpack it"),
    "tar": (archive_tar("w"), "is an archive. Unpack it"),
    "gz": (archive_tar("w:gz"), "is an archive. Unpack it"),
    "rar": (b"Rar!\x1a\x07\x01\x00" + b"\0" * 60, "is an archive. Unpack it"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
    "half": (pickled({"a": torch.zeros(3000)})[:900], "truncated or no checkpoint"),
    "legacy half": (pickled({"a": torch.zeros(3000)}, _use_new_zipfile_serialization=False)[:900], "truncated or no"),
    "text": (b"hello", "truncated or no checkpoint"),
    "tensor": (pickled(torch.zeros(3)), "holds a Tensor, expected a dictionary of named tensors"),
    "list": (pickled([torch.zeros(3)]), "holds a list, expected"),
    "numbers": (pickled({1: torch.zeros(3)}), "holds a dictionary with keys that are no text"),
    "module": (pickled(torch.nn.Linear(2, 2)), r"\(torch.nn.modules.linear.Linear\); loading it could run code"),
    "bomb": (pickled({"weights": Bomb()}), r"\(exec\); loading it could run code"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", BROKEN)
def test_each_kind_of_wrong_file_has_its_own_cure(tmp_path, kind, suffix):
    content, told = BROKEN[kind]
    if (suffix == ".safetensors" and "truncated" in told) or kind in ("tensor", "list", "numbers", "module", "bomb"):
        suffix = ".pth"
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=told) as caught:
        load_checkpoint(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text and len(text) < 250 + len(str(tmp_path))
    assert ("run code" in text) == (kind in ("module", "bomb")), "only where that is the reason"


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent.pt: can't be read \(No such file or directory\)"):
        load_checkpoint(tmp_path / "absent.pt")
    for name, told in ((".", "Is a directory"), ("x" * 3000, "File name too long"), ("a\0b", "null byte")):
        with pytest.raises(CheckpointError, match=told):
            load_checkpoint(tmp_path / name)


def test_a_truncated_safetensors_file(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(CheckpointError, match="truncated or no safetensors file"):
        load_checkpoint(path)
    path.write_bytes(b"hello")
    with pytest.raises(CheckpointError, match="truncated or no safetensors file"):
        load_checkpoint(path)


def test_the_content_decides_not_the_suffix(tmp_path):
    path = tmp_path / "x.pth"
    save_file({"a": torch.arange(3.0)}, path, {"format": "test"})
    state, metadata = parse_checkpoint(path.read_bytes(), path)
    assert torch.equal(state["a"], torch.arange(3.0)) and metadata == {"format": "test"}
    assert torch.equal(load_checkpoint(path)["a"], torch.arange(3.0))


def test_old_and_new_pickles_are_read(tmp_path):
    state = {"step": 3, "names": ["a"], "weights": {"a": torch.arange(4)}}
    for number, options in enumerate(({}, {"_use_new_zipfile_serialization": False})):
        path = tmp_path / f"{number}.pt"
        torch.save(state, path, **options)
        loaded = load_checkpoint(path)
        assert loaded["step"] == 3 and torch.equal(loaded["weights"]["a"], torch.arange(4))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1})
    with pytest.raises((WriteError, AttributeError, TypeError)):
        save_checkpoint(path, {"step": lambda: None})
    assert load_checkpoint(path) == {"step": 1}


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(WriteError, match=r"run/last\.pt: can't be written .* choose another folder"):
        save_checkpoint(tmp_path / "run" / "last.pt", {})
