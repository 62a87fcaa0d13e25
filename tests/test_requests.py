"""Reading requests: what is accepted, what is kept, and the sentence for each thing that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from songgen.request_keys import near_key
from songgen.request_names import song_names
from songgen.requests import RequestFile, SongRequest, parse_request, read_requests


def write(folder: Path, *lines: object) -> Path:
    """A JSONL file; strings and bytes are written as they are, other things as JSON."""
    path = folder / "in.jsonl"
    raw = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    ]
    path.write_bytes(b"\n".join(raw))
    return path


def read(folder: Path, *lines: object, **options: Any) -> RequestFile:
    return read_requests(write(folder, *lines), **options)


def song(**keys: Any) -> dict[str, Any]:
    return {"idx": "a", "gt_lyric": "[verse] la.", **keys}


def test_all_keys_reach_the_request(tmp_path: Path) -> None:
    line = song(
        descriptions="pop",
        generate_type="separate",
        stems="separator",
        seed=2**63 - 1,
        num_samples=3,
        temperature=1,
        top_k=0,
        top_p=1,
        cfg_coef=1.5,
        max_seconds=9.5,
        prompt_audio_path="clip.wav",
    )
    [request] = read(tmp_path, line).requests
    assert request == SongRequest(
        "a",
        "[verse] la.",
        "pop",
        "separate",
        "separator",
        2**63 - 1,
        3,
        1.0,
        0,
        1.0,
        1.5,
        9.5,
        "clip.wav",
        source=line,
        line=1,
    )


def test_blank_lines_bom_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    text = json.dumps(song())
    result = read(
        tmp_path, b"\xef\xbb\xbf" + text.encode() + b"\r", b"  \r", text.replace('"a"', '"b"') + "\r"
    )
    assert [(request.idx, request.line) for request in result.requests] == [("a", 1), ("b", 3)]
    assert result.bad_lines == []


def test_other_keys_are_kept_in_order(tmp_path: Path) -> None:
    line = {"title": "T", "gt_lyric": "[verse] la.", "speed": 2, "idx": "a", "meta": {"b": [1, None]}}
    [request] = read(tmp_path, line).requests
    assert list(request.source.items()) == list(line.items())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"id": "a", "lyrics": "x"}, ("a", "x", None)),
        ({"id": 7, "lyrics": "x", "style": "pop, sad"}, ("7", "x", "pop, sad")),
        ({"idx": -3, "gt_lyric": "x", "tags": ["pop", " sad ", ""]}, ("-3", "x", "pop, sad")),
        ({"idx": "a", "gt_lyric": "x", "descriptions": " "}, ("a", "x", None)),
        ({"idx": "a", "gt_lyric": "x", "descriptions": None, "seed": None}, ("a", "x", None)),
        ({"idx": "a", "generate_type": "bgm"}, ("a", "", None)),
    ],
)
def test_aliases_integers_and_nulls(line: dict[str, Any], expected: tuple[Any, ...]) -> None:
    request = parse_request(line)
    assert (request.idx, request.lyrics, request.descriptions) == expected


BAD_VALUES = [
    ({"seed": -1}, "seed is -1: it must be a whole number from 0 to 9223372036854775807"),
    ({"seed": 2**63}, "seed is 9223372036854775808: it must be"),
    ({"seed": 1.0}, "seed is 1.0: it must be a whole number"),
    ({"seed": True}, "seed is true: it must be a whole number"),
    ({"seed": "1"}, 'seed is "1": it must be a whole number'),
    ({"num_samples": 0}, "num_samples is 0: it must be a whole number from 1 to 1000"),
    ({"num_samples": 1001}, "num_samples is 1001: it must be"),
    ({"temperature": -0.1}, "temperature is -0.1: it must be a number from 0 up"),
    ({"temperature": "hot"}, 'temperature is "hot": it must be a number'),
    ({"top_k": -1}, "top_k is -1: it must be a whole number from 0 to 2147483647"),
    ({"top_k": 2**63}, "it must be a whole number from 0 to 2147483647"),  # did not fit a tensor
    ({"top_k": 2.5}, "top_k is 2.5: it must be a whole number"),
    ({"top_p": 1.1}, "top_p is 1.1: it must be a number from 0 to 1"),
    ({"cfg_coef": "1.5"}, 'cfg_coef is "1.5": it must be a finite number'),
    ({"max_seconds": 0}, "max_seconds is 0: it must be a number greater than 0"),
    ({"generate_type": "BGM"}, 'generate_type is "BGM": it must be one of mixed, vocal, bgm, separate'),
    ({"descriptions": 5}, "descriptions is 5: it must be a string of tags separated by commas"),
    ({"descriptions": ["a", 1]}, 'descriptions is ["a", 1]: it must be'),
    ({"tags": {}}, "tags is {}: it must be a string of tags"),
    ({"prompt_audio_path": ""}, 'prompt_audio_path is "": it must be a string: the path'),
    ({"prompt_audio_path": "a\x00"}, "prompt_audio_path is"),
    ({"auto_prompt_audio_type": 3}, "auto_prompt_audio_type is 3: it must be a string"),
    ({"gt_lyric": ["x"]}, 'gt_lyric is ["x"]: it must be a string'),
    (
        {"gt_lyric": " \n"},
        "gt_lyric is empty: only with generate_type bgm a song needs no lyrics, this is mixed",
    ),
    ({"gt_lyric": None, "generate_type": "vocal"}, "gt_lyric is empty: only with generate_type bgm"),
    ({"idx": True}, "idx is true: it must be a string (or a whole number)"),
    ({"idx": None}, "no idx: name the song"),
    ({"idx": ""}, "idx '' is empty"),
    ({"idx": " a"}, "idx ' a' begins or ends with a blank"),
    ({"idx": "a/b"}, "idx 'a/b' holds a path separator: the song would leave the output folder"),
    ({"idx": "..\\b"}, "holds a path separator"),
    ({"idx": ".."}, "begins with a dot"),
    ({"idx": ".a"}, "begins with a dot"),
    ({"idx": "a\nb"}, "holds the control character U+000A"),
    ({"idx": "a\x00b"}, "holds the control character U+0000"),
    ({"idx": "é" * 101}, "has 202 bytes, at most 200 are allowed"),
    ({"lyrics": "x"}, "'gt_lyric' and 'lyrics' are two names of one key: keep one"),
    ({"style": "x", "tags": "y"}, "'style' and 'tags' are two names of one key"),
    ({"prompt_audio_path": "a", "auto_prompt_audio_type": "Pop"}, "are given together: keep one"),
    (
        {"description": "pop"},
        "\"description\" would have no effect: 'descriptions' (or 'style', 'tags') is meant?",
    ),
    ({"promt_audio_path": "a"}, "'prompt_audio_path' (or 'prompt_wav') is meant?"),
    ({"promtp_wav": "a"}, "'prompt_audio_path' (or 'prompt_wav') is meant?"),
    ({"prompt_wav": "a", "auto_prompt_audio_type": "Pop"}, "prompt_wav and auto_prompt_audio_type"),
    ({"prompt_wav": "a", "prompt_audio_path": "b"}, "are two names of one key: keep one"),
    ({"prompt_wav": ""}, 'prompt_wav is "": it must be a string: the path'),
    ({"Seed": 3}, "'seed' is meant?"),
    ({"cfg_coef": float("nan")}, "NaN is not JSON: numbers must be finite"),
    ({"other": float("inf")}, "Infinity is not JSON"),
    ({"other": "\ud800"}, "half a surrogate pair"),
    ({"other": object()}, "a request holds JSON values only"),
]


@pytest.mark.parametrize(("keys", "message"), BAD_VALUES)
def test_a_bad_value_is_named_with_what_is_allowed(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_request(song(**keys))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_everything_wrong_with_a_line_is_said_at_once() -> None:
    with pytest.raises(ValueError, match=r"no idx.*; seed is -1.*; top_p is 2"):
        parse_request({"gt_lyric": "x", "seed": -1, "top_p": 2})


@pytest.mark.parametrize("not_mapping", [[1], "x", None])
def test_a_request_must_be_a_mapping(not_mapping: Any) -> None:
    with pytest.raises(ValueError, match="mapping of keys to values"):
        parse_request(not_mapping)


def test_missing_lyrics_and_a_misspelt_key_are_one_fault() -> None:
    with pytest.raises(ValueError) as caught:
        parse_request({"idx": "a", "lyric": "x"})
    assert (
        str(caught.value) == "unknown key \"lyric\" would have no effect: 'gt_lyric' (or 'lyrics') is meant?"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nope", "not JSON: Expecting value at column 1"),
        ("[1]", "a line should be one JSON object, {...}, not a list"),
        ('"s"', "not a string"),
        ("null", "not null"),
        ("true", "not true or false"),
        ("3", "not a number"),
        (b'{"idx": "\xff"}', "not UTF-8: byte 0xff at position 10"),
        ('{"idx": "b", "idx": "c"}', "the key 'idx' is given twice: keep one"),
        ('{"idx": "b", "gt_lyric": "x", "m": {"k": 1, "k": 2}}', "the key 'k' is given twice"),
        ('{"idx": "b", "gt_lyric": "x", "cfg_coef": 1e999}', "1e999 is too large"),
        ('{"idx": "b", "gt_lyric": "x", "seed": %s}' % ("9" * 5000), "a number of 5000 digits is too large"),
        ('{"idx": "b", "gt_lyric": "\\ud800"}', "half a surrogate pair"),
        ("[" * 100000, "nested too deeply"),
        ({"gt_lyric": "x"}, "no idx: name the song"),
    ],
)
def test_a_bad_line_is_reported_and_the_others_are_read(tmp_path: Path, line: object, message: str) -> None:
    path = write(tmp_path, song(), line)
    result = read_requests(path)
    assert [request.idx for request in result.requests] == ["a"]
    [bad] = result.bad_lines
    assert str(bad).startswith(f"{path}: line 2: ") and message in str(bad)


def test_a_bad_line_names_its_idx(tmp_path: Path) -> None:
    path = write(tmp_path, song(seed=-1))
    [bad] = read_requests(path).bad_lines
    assert str(bad).startswith(f"{path}: line 1: idx 'a': seed is -1")
    assert (bad.line, bad.idx, bad.source) == (1, "a", song(seed=-1))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({}, {"idx": "a"}, "duplicate idx 'a': line 1 has it already"),
        ({}, {"idx": "A"}, "differs from 'a' of line 1 only in case"),
        ({"idx": "\u00e9"}, {"idx": "e\u0301"}, "only in case or Unicode form"),
        ({"num_samples": 2}, {"idx": "a_s0"}, "would write the file 'a_s0', as does idx 'a' of line 1"),
        ({"generate_type": "separate"}, {"idx": "a_vocal"}, "would write the file 'a_vocal'"),
        ({"idx": "a_bgm"}, {"generate_type": "bgm"}, "would write the file 'a_bgm', as does idx 'a_bgm'"),
    ],
)
def test_songs_that_would_overwrite_each_other(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], message: str
) -> None:
    result = read(tmp_path, song(**first), song(**second))
    assert [request.line for request in result.requests] == [1]
    assert message in str(result.bad_lines[0])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"idx": "a_s0"}),
        ({}, {"idx": "a_vocal"}),
        ({"generate_type": "vocal"}, {"idx": "a_bgm"}),
        ({"seed": -1}, {"idx": "a"}),  # a bad line takes no name
    ],
)
def test_names_that_do_not_collide(tmp_path: Path, first: dict[str, Any], second: dict[str, Any]) -> None:
    assert read(tmp_path, song(**first), song(**second)).requests[-1].line == 2


def test_the_runs_generate_type_counts_for_lines_that_do_not_say(tmp_path: Path) -> None:
    lines = {"idx": "a"}, {"idx": "b", "generate_type": "mixed"}, {"idx": "a_bgm"}
    result = read(tmp_path, *lines, default_generate_type="bgm")
    assert [request.idx for request in result.requests] == ["a"]
    assert "this is mixed" in str(result.bad_lines[0])
    assert "would write the file 'a_bgm'" in str(result.bad_lines[1])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \n\n", "is empty"),
        ('{"idx": 1}'.encode("utf-16"), "is in UTF-16: save it as UTF-8"),
        (b'[{"idx": "a"},\n {"idx": "b"}]', "holds one JSON list"),
        (b'{\n "idx": "a",\n "gt_lyric": "x"\n}\n', "holds one JSON object over several lines"),
    ],
)
def test_a_file_that_is_no_json_lines(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        read_requests(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.jsonl: there is no such file"):
        read_requests(tmp_path / "gone.jsonl")
    with pytest.raises(ValueError, match="is a folder"):
        read_requests(tmp_path)


def test_a_prompt_is_looked_for_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "clip.wav").touch()
    result = read(tmp_path, song(idx="a", prompt_audio_path="clip.wav"), song(idx="b", prompt_audio_path="x"))
    assert [request.prompt_audio_path for request in result.requests] == [str(tmp_path / "clip.wav"), "x"]


def test_a_prompt_path_that_no_system_can_look_up_stays_an_error_of_its_song(tmp_path: Path) -> None:
    """Looking beside the file threw OSError for a name of over 255 bytes, and the whole run ended."""
    name = "x" * 300 + ".wav"
    result = read(tmp_path, song(idx="a", prompt_audio_path=name), song(idx="b"))
    assert [request.prompt_audio_path for request in result.requests] == [name, None]


def test_misspelt_keys_are_kept_where_the_right_one_is_given() -> None:
    """`lyrics_` beside `gt_lyric` loses nothing, so it is the user's own key."""
    request = parse_request(song(gt_lyrics="other"))
    assert request.source["gt_lyrics"] == "other"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("gt_lyrics", "gt_lyric"),
        ("Lyrics", "gt_lyric"),
        ("ID", "idx"),
        ("tag", "descriptions"),
        ("top-k", "top_k"),
        ("temprature", "temperature"),
        ("gen_type", "generate_type"),
        ("numsamples", "num_samples"),
        ("auto_prompt_type", "auto_prompt_audio_type"),
        *(
            (name, None)
            for name in [
                "title",
                "artist",
                "lyricist",
                "speed",
                "language",
                "genre",
                "duration",
                "text",
                "url",
                "name",
            ]
        ),
        *(
            (name, None)
            for name in [
                "wav_path",
                "uid",
                "index",
                "key",
                "bpm",
                "prompt",
                "style_prompt",
                "status",
                "model",
                "line",
            ]
        ),
    ],
)
def test_near_keys(name: str, key: str | None) -> None:
    """Too eager a comparison would refuse lines for harmless keys of their own."""
    assert near_key(name) == key


def test_song_names() -> None:
    assert song_names("a", 1) == ["a"]
    assert song_names("a", 3) == ["a_s0", "a_s1", "a_s2"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(
    ["idx", "id", "gt_lyric", "lyrics", "seed", "top_p", "generate_type", "tags", "max_seconds"]
)


@given(st.dictionaries(KEYS | st.text(), JSON, max_size=6))
def test_any_mapping_is_a_request_or_a_value_error(mapping: dict[str, Any]) -> None:
    try:
        request = parse_request(mapping)
    except ValueError as error:
        assert str(error)
    else:
        assert dict(request.source) == mapping
        assert request.idx and "/" not in request.idx and 1 <= request.num_samples <= 1000


@given(data=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    path.write_bytes(b'{"idx": "good", "gt_lyric": "x"}\n' + data)
    result = read_requests(path)
    assert result.requests[0].idx == "good"
    assert all(str(bad).startswith(f"{path}: line ") for bad in result.bad_lines)
