"""`NAME=DIR` words."""

import pytest

from utils.errors import UserError
from utils.named_folders import named_folders


def test_in_the_given_order(tmp_path):
    assert list(named_folders([f"b={tmp_path}", f"a={tmp_path}"], "--data").items()) == [
        ("b", tmp_path),
        ("a", tmp_path),
    ]


def test_only_the_first_equals_sign_parts(tmp_path):
    folder = tmp_path / "x=y"
    folder.mkdir()
    assert named_folders([f"a={folder}"], "--data") == {"a": folder}


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("ECSSD", "give NAME=DIR"),
        ("=somewhere", "give NAME=DIR"),
        ("a=", "give NAME=DIR"),
        ("a/b=.", "becomes a file name"),
        (".a=.", "becomes a file name"),
        ("a=/no/such/place", "there is no folder /no/such/place"),
    ],
)
def test_refused(word, told):
    with pytest.raises(UserError, match=told) as error:
        named_folders([word], "--maps")
    assert str(error.value).startswith(f"--maps {word}: ")


def test_twice():
    with pytest.raises(UserError, match="'a' is given twice"):
        named_folders(["a=.", "a=."], "--data")
