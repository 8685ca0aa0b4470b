"""Points 6 and 15: every kind of wrong weights is refused in one line with its own cure, before anything is written."""

import gzip
import io
import zipfile

import pytest
import torch

from utils.errors import UserError

HTML = b"<!DOCTYPE html><html><body>404</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 3\n"


def pickled(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return buffer.getvalue()


CONTENTS = {
    "html": (HTML, "is a web page"),
    "pointer": (POINTER, "git lfs pull"),
    "empty": (b"", "is empty"),
    "zip": (zipped(), "is an archive"),
    "gzip": (gzip.compress(b"hello"), "is an archive"),
    "tensor": (pickled(torch.zeros(3)), "holds a Tensor"),
    "list": (pickled([torch.zeros(3)]), "holds a list"),
    "integer keys": (pickled({0: torch.zeros(3)}), "keys that are no text"),
    "half": (pickled({"a": torch.zeros(5000)})[:9000], "truncated"),
    "another network": (pickled({"conv1.weight": torch.zeros(3)}), "neither a checkpoint of this project"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", CONTENTS)
def test_each_has_its_own_cure(run, photos, tmp_path, kind, suffix):
    content, cure = CONTENTS[kind]
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=cure) as caught:
        run("--images", photos, "--weights", path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and "could run code" not in message
    assert not (tmp_path / "out").exists()
