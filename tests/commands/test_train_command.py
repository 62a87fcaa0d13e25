"""`songgen train`: its words, and what it says of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from songgen.cli import main
from songgen.commands.train import read_settings
from songgen.config_keys import ConfigError
from songgen.config_tree import choices_of
from songgen.train.stages import STAGES, TRAINED, WRITERS


def test_help_lists_the_stages_in_order_and_the_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = capsys.readouterr().out
    places = [shown.index(f"\n  {name} ") for name in STAGES]
    assert places == sorted(places)
    assert all(name in shown for name in choices_of("recipe"))


def test_every_stage_can_be_run_and_has_its_place() -> None:
    assert set(TRAINED) | set(WRITERS) == set(STAGES)


def test_settings_come_from_the_files_and_the_words() -> None:
    config, recipe = read_settings(["data=there", "max_seconds=5", "vae.loop.steps=7", "vae.batch=2"])
    assert (config.data, config.work, config.max_seconds) == (Path("there"), Path("train/work"), 5.0)
    assert recipe.loop("vae").steps == 7
    assert recipe.sections["vae"]["batch"] == 2
    assert recipe.sections["vae"]["additive"] is True


@pytest.mark.parametrize("recipe", choices_of("recipe"))
def test_every_recipe_gives_every_stage_its_settings(recipe: str) -> None:
    import importlib

    _, found = read_settings([f"recipe={recipe}"])
    for entry in TRAINED.values():
        found.settings(entry.section, getattr(importlib.import_module(entry.module), entry.settings))
        found.loop(entry.section)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["recipe=nanno"], "recipe=nanno: must be one of .*nano"),
        (["dta=here"], "dta is not a setting of `songgen train`; did you mean data"),
        (["vae.loop.stepps=3"], "vae.loop.stepps is not a setting; did you mean steps"),
        (["--data", "x"], "--data: settings are written key=value"),
        (["threads=many"], "train.threads=many: Input should be a valid integer"),
    ],
)
def test_what_is_wrong_is_named(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_settings(words)[1].loop("vae")


def test_an_unknown_stage_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["train", "vea"])
    assert error.value.code == 2
    assert "invalid choice: 'vea'" in capsys.readouterr().err
