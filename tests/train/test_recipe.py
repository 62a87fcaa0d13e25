"""Recipes: plain values to the settings of stages."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from songgen.config_keys import ConfigError
from songgen.train.loop import LoopSettings
from songgen.train.recipe import Recipe, with_overrides


@dataclass(frozen=True)
class Sizes:
    width: int
    strides: tuple[int, ...] = (2, 4)
    rate: float = 0.5


SECTIONS = {"vae": {"width": 8, "strides": [2, 3], "loop": {"steps": 10, "learning_rate": 1e-3}}}


def test_a_section_becomes_settings_and_a_loop() -> None:
    recipe = Recipe(SECTIONS)
    assert recipe.settings("vae", Sizes) == Sizes(8, (2, 3))
    assert recipe.loop("vae", max_seconds=3) == LoopSettings(steps=10, learning_rate=1e-3, max_seconds=3.0)


def test_overrides_change_a_copy() -> None:
    merged = with_overrides(SECTIONS, {"vae.loop.steps": 3, "vae.rate": "0.25"})
    recipe = Recipe(merged)
    assert (recipe.loop("vae").steps, recipe.settings("vae", Sizes).rate) == (3, 0.25)
    assert SECTIONS["vae"]["loop"] == {"steps": 10, "learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vae.widht": 3}, "vae.widht is not a setting; did you mean width"),
        ({"vae.width": "wide"}, "vae.width=wide: Input should be a valid integer"),
        ({"vae.loop.stepps": 3}, "vae.loop.stepps is not a setting; did you mean steps"),
        ({"vea.width": 3}, "vea.width is not a setting of `songgen train`; did you mean vae"),
        ({"vae": 3}, "vae is not a setting"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe = Recipe(with_overrides(SECTIONS, given))
        recipe.settings("vae", Sizes)
        recipe.loop("vae")


def test_a_section_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="no section flow; it has vae"):
        Recipe(SECTIONS).settings("flow", Sizes)
