"""The catalogue: its figures, its names, and the road from a name or a path to a checkpoint's folder."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from songgen.models import catalog
from songgen.models.base import RunSettings
from songgen.models.songbloom.locate import find_model

NAMES = {
    "songgeneration_base": ("v1", 150, 10, 16, 2829577728),
    "songgeneration_base_new": ("v1", 150, 10, 16, 2829577728),
    "songgeneration_base_full": ("v1", 270, 12, 18, 2829577728),
    "songgeneration_large": ("v1", 270, 22, 28, 5122320384),
    "songgeneration_v2_large": ("v2", 270, 22, 28, 5122332672),
    "songgeneration_v2_medium": ("v2", 270, 12, 18, 2829586944),
    "songgeneration_v2_fast": ("v2", 270, 0, 0, 3794745344),
}
SONGBLOOM = {
    "songbloom_full_150s": (150, "CypressYang/SongBloom"),
    "songbloom_full_150s_dpo": (150, "CypressYang/SongBloom"),
    "songbloom_full_240s": (240, "CypressYang/SongBloom_long"),
}
LEVO = [entry for entry in catalog.entries() if entry.family == "levo"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("a: 1")
    (folder / "model.pt").write_bytes(b"x")
    return folder


def parameter_count(entry: catalog.CatalogEntry) -> int:
    """Elements of a LeVo language model of these sizes (spec: FACTS 3, 4 and 15), 16384 codes."""
    size = {key: int(value) for key, value in entry.sizes.items()}
    width, codes = size["dim"], 16384
    layer = 4 * width * width + 3 * width * size["intermediate_size"] + 2 * width
    layers = (size["num_layers"] + size["num_layers_sub"]) * layer
    if not size["num_layers_sub"]:  # one codebook: one transformer, its tables and a prompt row of its own
        text = (size["lyric_rows"] + 200 + size["description_rows"]) * width
        tables = 2 * (codes + 1) * width + 2 * (codes + 2) * width
        return layers + width + tables + text + width
    first_and_second = 2 * (2 * (codes + 1) * width + width)  # embed_tokens, lm_head and final norm, twice
    heads = 2 * (codes + 1) * width
    tables = 4 * (codes + 2) * width  # emb.0 and layer2_emb.0 ... 2
    bridge = 3 * width * width + 2 * width
    text = (size["lyric_rows"] + 200 + size["description_rows"]) * width
    prompt = 2 * width + 3 * (codes + 2) * width
    return layers + first_and_second + heads + tables + bridge + text + prompt + 2 * width


def test_the_catalogue_holds_the_published_models() -> None:
    """Lengths, memory and sizes as published: the README, the linter's limits and the bench rest on them."""
    found = {
        entry.name: (
            entry.version,
            entry.max_seconds,
            entry.memory_gb,
            entry.prompt_memory_gb,
            entry.parameters,
        )
        for entry in LEVO
    }
    assert found == NAMES
    for entry in LEVO:
        assert "academic" in entry.licence
        assert entry.repository.startswith(("lglg666/SongGeneration-", "waytan22/SongGeneration-"))
        assert entry.sizes["lyric_max_len"] == (300 if entry.max_seconds == 150 else 600)
        assert entry.sizes["dim"] % entry.sizes["num_heads"] == 0


def test_the_catalogue_holds_songbloom() -> None:
    """Its models lie in two repositories, its shared files in one of them."""
    found = {
        entry.name: (entry.max_seconds, entry.repository)
        for entry in catalog.entries()
        if entry.family == "songbloom"
    }
    assert found == SONGBLOOM and len(found) + len(LEVO) == len(catalog.entries())
    for name in found:
        entry = catalog.find_entry(name)
        assert entry is not None and entry.files == entry.needed == (f"{name}.yaml", f"{name}.pt")
        assert catalog.runtime_entries()[entry.runtime].repository == "CypressYang/SongBloom"


@pytest.mark.parametrize("entry", LEVO, ids=lambda entry: entry.name)
def test_sizes_give_the_published_number_of_parameters(entry: catalog.CatalogEntry) -> None:
    """A wrong figure in a data file must not pass: the sizes give the published count exactly."""
    assert parameter_count(entry) == entry.parameters


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base", "songgeneration_base"),
        ("SongGeneration-Base", "songgeneration_base"),
        ("songgeneration_base/", "songgeneration_base"),
        ("base_new", "songgeneration_base_new"),
        ("V2-Large", "songgeneration_v2_large"),
        ("songgeneration-v2_medium", "songgeneration_v2_medium"),
        ("lglg666/SongGeneration-large", "songgeneration_large"),
    ],
)
def test_names_are_forgiving(name: str, expected: str) -> None:
    entry = catalog.find_entry(name)
    assert entry is not None and entry.name == expected


@pytest.mark.parametrize("place", [".", "ckpt", "models", "run/time", "run/time/ckpt", "run"])
@pytest.mark.parametrize("folder", ["songgeneration_base_full", "SongGeneration-base-full"])
def test_a_name_is_looked_for_in_every_place(here: Path, place: str, folder: str) -> None:
    made = make_checkpoint(here / place / folder)
    assert catalog.find_folder("base-full", runtime_dir=Path("run/time")).samefile(made)


def test_any_folder_is_a_model(here: Path) -> None:
    """Renamed checkpoints work, with or without a trailing slash, relative or absolute."""
    made = make_checkpoint(here / "renamed by me")
    for given in ("renamed by me", "renamed by me/", "./renamed by me", str(made), made):
        assert catalog.find_folder(given).samefile(made)


def test_an_unrelated_folder_does_not_hide_a_model(here: Path) -> None:
    """A folder `large` full of other things must not stop the name `large` from being found."""
    (here / "large").mkdir()
    made = make_checkpoint(here / "models" / "songgeneration_large")
    assert catalog.find_folder("large").samefile(made)


def test_a_name_that_is_not_on_disk_gives_places_and_the_fetch_line(here: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        catalog.find_folder("large", runtime_dir=Path("away"))
    message = str(caught.value)
    for place in ("songgeneration_large", "ckpt/songgeneration_large", "models/songgeneration_large"):
        assert f"\n  {here / place}" in message
    assert str(here / "away" / "songgeneration_large") in message
    assert message.endswith("`songgen fetch songgeneration_large`")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("laarge", r"did you mean large\?\nThe catalogue has: nano, tiny, tiny-fast, tiny-songbloom, base,"),
        ("zzz", r"'zzz' is neither a folder nor a name of the catalogue\nThe catalogue has: nano"),
        ("songgeneration_v1.5_base", "announced by the publisher, no weights were published"),
    ],
)
def test_unknown_names_are_explained(here: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        catalog.find_folder(name)


@pytest.mark.parametrize("place", ["models/songbloom_full_240s", "SongBloom_long", ".", "cache"])
def test_songbloom_models_may_lie_side_by_side(here: Path, place: str) -> None:
    """In a folder of their name, of the repository's, or of any other: the yaml says which is meant."""
    folder = here / place
    folder.mkdir(parents=True, exist_ok=True)
    entry = catalog.find_entry("songbloom_full_240s")
    assert entry is not None and catalog.folder_of(entry) is None
    for name in ("songbloom_full_150s", "songbloom_full_240s"):
        (folder / f"{name}.yaml").write_text("model:\n  diff_layers: 12\n")
        (folder / f"{name}.safetensors").write_text("x")
    wanted = folder / "songbloom_full_240s.yaml"
    runtime_dir = folder if place == "cache" else None
    for given in (wanted, "songbloom_full_240s"):
        found = find_model(catalog.find_folder(given, runtime_dir=runtime_dir))
        assert found.config.samefile(wanted)


def test_a_path_that_is_not_there(here: Path) -> None:
    """A mistyped path must not be answered with the catalogue."""
    with pytest.raises(FileNotFoundError, match=r"some/where: no such folder"):
        catalog.find_folder("some/where")


@pytest.mark.parametrize("given", ["tiny", "Tiny", "tiny/", "models/mine"])
def test_load_model_hands_folder_and_settings_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """`load_model` is glue: the built-in model or the folder found, every setting passed through."""
    mine = make_checkpoint(here / "models" / "mine")
    built_in = make_checkpoint(here / "cache" / "tiny")
    calls: list[tuple[Path, dict[str, object]]] = []
    model, tiny = ModuleType("model"), ModuleType("tiny")
    model.load = lambda folder, **settings: calls.append((folder, settings))  # type: ignore[attr-defined]
    tiny.ensure_tiny = lambda name: built_in  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "songgen.models.levo.loading", model)
    monkeypatch.setitem(sys.modules, "songgen.models.levo.tiny", tiny)
    options = {
        "device": "cpu", "dtype": "fp32", "codec_dtype": "bf16", "memory": "low", "batch": 3,
        "attention": "sdpa", "kv_cache": "int8", "threads": 2, "gpu_memory": 10, "max_seconds": 9.5,
        "num_songs": 4,
    }  # fmt: skip
    assert options.keys() == vars(RunSettings()).keys()
    catalog.load_model(given, **options)
    folder, settings = calls[0]
    assert folder.samefile(mine if "mine" in given else built_in)
    announce = settings.pop("announce")
    assert callable(announce) and announce("the plan") is None
    assert settings == {"runtime_dir": None, **options}


def test_a_runtime_folder_for_a_built_in_model_is_said_to_do_nothing(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An option that has no effect is warned about; a folder that was not even there went unnoticed."""
    monkeypatch.setattr("songgen.models.levo.tiny.ensure_tiny", lambda name: tiny_folder)
    catalog.load_model("tiny", runtime_dir=Path("nowhere"), device="cpu")
    assert "runtime_dir=nowhere has no effect: tiny has files of its own" in caplog.text


def test_a_name_that_does_not_fit_the_tensors_is_said(
    here: Path, tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A renamed checkpoint runs as what its tensors are, not as what it is called; the name is checked."""
    for name in ("songgeneration_base", "songgeneration_v2_large", "mine"):
        shutil.copytree(tiny_folder, here / name)
        model = catalog.load_model(here / name, device="cpu")
        assert model.text_rules.version == "v2"
    (said,) = [record.getMessage() for record in caplog.records if "called after" in record.getMessage()]
    assert "songgeneration_base is called after a v1 model, but its tensors are those of v2" in said
