"""Catalogue files as editors write them, and as operators change them."""

from __future__ import annotations

from pathlib import Path

import pytest

from roost.service.catalogue_file import CatalogueFile, Changes, read_catalogue, shown
from roost.service.startup import CannotStart


def entry(name: str, size: str = "40MB") -> str:
    return f'[models."{name}"]\nengine = "simulated"\nsource = "published"\nsize = "{size}"\n'


TEXT = "# \U0001f680 models \u2028 here\n" + entry("größe")


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.replace("\n", "\r\n").encode("utf-8-sig"),
        TEXT.replace("\n", "\n\t").encode(),
        TEXT.rstrip().encode(),
    ],
    ids=["utf-8", "byte-order-mark", "utf-16", "utf-16-be", "crlf", "tabs", "no-last-newline"],
)
def test_a_catalogue_is_read_as_editors_write_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "my models.toml"
    path.write_bytes(content)
    assert read_catalogue(path, "X").names == ("größe",)


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "models.toml").write_text(entry("a"))
    assert read_catalogue(Path("~/models.toml"), "X").names == ("a",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a = 1\n\nb = '\xe4'\n", r"models\.toml line 3: is not UTF-8; save it as UTF-8"),
        (b"\xff\xfea", r"models\.toml line 1: is not UTF-8"),
        (b"\xef\xbb\xbf[models.a]\r\nengine = 'steam'\r\n", r"models\.toml line 2: .*steam"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "models.toml"
    path.write_bytes(content)
    with pytest.raises(CannotStart, match=words):
        read_catalogue(path, "X")


@pytest.mark.parametrize("name", ["none.toml", ".", "~nobody-of-that-name/models.toml"])
def test_a_file_that_is_none_is_told_with_the_setting(tmp_path: Path, name: str) -> None:
    with pytest.raises(CannotStart, match=r"models \(--models, ROOST_X_MODELS\): .* cannot be read"):
        read_catalogue(tmp_path / name if not name.startswith("~") else Path(name), "ROOST_X_MODELS")


def test_a_changed_file_is_compared_by_name(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(entry("a") + entry("b") + entry("c"))
    file = CatalogueFile(path, "X")
    path.write_text(entry("b", "41MB") + entry("c") + entry("d"))
    found, changes = file.read()
    assert changes == Changes(added=("d",), removed=("a",), changed=("b",))
    assert len(file.catalogue) == 3
    file.take_over(found, keep=["a", "never-there"])
    assert list(file.catalogue.names) == ["a", "b", "c", "d"]
    assert file.catalogue.get("b").size_bytes == 41_000_000
    assert file.read()[1] == Changes(removed=("a",))
    assert not CatalogueFile(path, "X").read()[1]


def test_a_mistake_in_a_changed_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(entry("a"))
    file = CatalogueFile(path, "X")
    path.write_text("[models.a\n")
    with pytest.raises(CannotStart, match="line 1"):
        file.read()
    assert file.catalogue.names == ("a",)


def test_many_names_are_shown_in_part() -> None:
    assert shown(["a", "b"]) == ["a", "b"]
    assert shown(map(str, range(9)), limit=2) == ["0", "1", "and 7 more"]
