"""The reader of published config files: references, arithmetic, loaded files, what it says of bad ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from songgen.models.levo.config import BUILT_IN_FILES
from songgen.models.published_yaml import read_published_yaml

TAGS = ["[verse]", "[chorus]"]


def read(tmp_path: Path, text: str) -> dict[str, Any]:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return read_published_yaml(path, search=[BUILT_IN_FILES])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x: 3\ny: ${x}", 3),
        ("x: null\ny: ${x}", None),
        ("x: {a: {b: [5, 6]}}\ny: ${x.a.b.1}", 6),
        ("x: {a: 1}\ny: ${x}", {"a": 1}),
        ("x: 3\ny: a${x}b${x}", "a3b3"),
        ("k: x\nx: 4\ny: ${${k}}", 4),
        ("n: 10\nr: 25\ny: ${eval:${n}*${r}+2} # 252", 252),
        ("n: 2.4\ny: ${eval:${n}*25}", 60.0),
        ("y: ${eval:-(7//2) + 2**3 % 5 - +1/4}", -0.25),
        ("n: 3\nm: ${eval:${n}+1}\ny: ${eval:${m}*${m}}", 16),
        ("a: [1]\nb: [2, 3]\ny: '${concat:${a},${b}}'", [1, 2, 3]),
        ("y: '${get_fname:}'", "config"),
        ("y: ${get_fname:some/folder/name.yaml}", "name"),
        ("y: 1e-5", 1e-5),
        ("y: 2024-01-01", "2024-01-01"),
        ("y: {x: 1, z: '${y.x}'}", {"x": 1, "z": 1}),
        ("y: 'costs 5$ {really}'", "costs 5$ {really}"),
        ("y: '[verse]: \\u4f60'", "[verse]: \\u4f60"),
        ("\ufeffy: 1", 1),
    ],
)
def test_values(tmp_path: Path, text: str, expected: object) -> None:
    """Each form of reference gives its value, with its type."""
    value = read(tmp_path, text)["y"]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\ny: ${nothing}", r"config\.yaml: y: '\$\{nothing\}' names no key"),
        ("x: {a: 1}\ny: ${x.b}", r"y: '\$\{x\.b\}' names no key"),
        ("x: [1]\ny: ${x.1}", "names no key"),
        ("y: {a: '${b}'}\nb: ${y.a}", r"circular reference: y\.a -> b -> y\.a"),
        ("y: ${y}", "circular reference: y -> y"),
        ("y: {a: '${y}'}", "circular reference"),
        ("y: ${env:HOME}", "y: unknown resolver 'env'; known: eval, load_yaml, concat, get_fname"),
        ("y: ${eval:__import__('os').getcwd()}", "only numbers"),
        ("y: ${eval:True+1}", "only numbers"),
        ("y: '${eval:1+}'", r"cannot work out '1\+': not arithmetic"),
        ("y: ${eval:1/0}", "division by zero"),
        ("y: ${eval:2**999999}", "exponent above 64"),
        ("y: ${eval:9**64}", "a number above"),
        ("{[1]: 2}", "not readable as YAML"),
        ("y: ${eval:(-8)**0.5}", "not a real number"),
        ("y: ${eval:" + "1+" * 200 + "1}", "longer than 200 characters"),
        ("y: '${a'", "without its"),
        ("a: [1]\ny: x${a}", "puts a list or mapping inside a text"),
        ("a: 1\ny: '${concat:${a}}'", "concat joins lists"),
        ("y: ${load_yaml:no/such.yaml}", r"y: no file 'no/such\.yaml'; looked for\n  .*no/such\.yaml"),
        ("a: 1\na: 2", "key 'a' stands twice"),
        ("y: [1", "not readable as YAML"),
        ("- 1", "expected a mapping"),
        ("", "expected a mapping"),
    ],
)
def test_bad_files_name_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    """What a user can mend is a ValueError that names the file, the key and the reason."""
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, text)
    assert "config.yaml" in str(caught.value)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.yaml: no such file"):
        read_published_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize("place", ["model", "model/..", "model/../..", "elsewhere"])
def test_loaded_files_are_found_beside_above_and_in_the_search_folders(tmp_path: Path, place: str) -> None:
    """`load_yaml` looks beside the file, in the folders above it, then where it is told."""
    model = tmp_path / "up" / "model"
    model.mkdir(parents=True)
    folder = (tmp_path / "up" / place).resolve() / "conf"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text("- '[verse]'\n- '[chorus]'\n")
    (model / "config.yaml").write_text("y: ${load_yaml:conf/own.yaml}\n")
    search = [tmp_path / "up" / "elsewhere"]
    assert read_published_yaml(model / "config.yaml", search=search)["y"] == TAGS


def test_the_structure_tags_are_built_in(tmp_path: Path) -> None:
    """conf/vocab.yaml belongs to the publisher's program; a checkpoint without it must still be readable."""
    tags = read(tmp_path, "y: ${load_yaml:conf/vocab.yaml}")["y"]
    assert len(tags) == 13
    assert tags[0] == "[verse]" and tags[-1] == "[silence]"


def test_a_file_that_loads_itself_is_circular(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="circular reference"):
        read(tmp_path, "y: ${load_yaml:config.yaml}")


def test_recorded_config_files(parity_root: Path) -> None:
    """The recorded cases' own files: the one arithmetic expression and the 13 tags."""
    tree = read_published_yaml(parity_root / "levo" / "lm_v1_prefill" / "config.yaml")
    assert tree["conditioners"]["prompt_audio"]["qt_embedding"]["max_len"] == 27
    assert len(tree["conditioners"]["description"]["QwTokenizer"]["add_token_list"]) == 13
    assert tree["lm"]["rope_theta"] == 100000.0


@given(st.text(alphabet="${}:abyeval,.+1 []", max_size=30))
def test_any_text_is_a_value_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """No text in a value, however broken, ends in anything but a value or a ValueError."""
    path = tmp_path_factory.mktemp("any") / "config.yaml"
    path.write_text("a: 1\nb: [2]\ny: '" + text + "'\n", encoding="utf-8")
    try:
        assert "y" in read_published_yaml(path, search=[BUILT_IN_FILES])
    except ValueError as error:
        assert "config.yaml" in str(error)


def test_dynamic_path_is_the_folder_of_the_download(tmp_path: Path) -> None:
    """SongBloom's form: `???` stands for the folder that the files were fetched to."""
    (tmp_path / "words.yaml").write_text("- a\n- b\n")
    text = "y: ${load_yaml:${dynamic_path:???/words.yaml}}\nz: ${dynamic_path:???/x.pt}\n"
    assert read(tmp_path, text) == {"y": ["a", "b"], "z": "x.pt"}
