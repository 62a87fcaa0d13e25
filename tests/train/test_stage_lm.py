"""The language model stages on three songs of seconds: layout, conditions, guides, losses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_songs import write_small_songs

from songgen.english import PHONEMES
from songgen.models.levo.condition import TextConditioner
from songgen.models.levo.pattern import from_sequence, to_sequence
from songgen.models.levo.slots import LelmSlots
from songgen.nn.llama import Llama, LlamaConfig, RotaryTable
from songgen.train import lm
from songgen.train.curves import read_losses
from songgen.train.dataset import SongStore, frame_labels
from songgen.train.label_codes import LABELLED, label_codes, without_beats
from songgen.train.lm import LmSettings, LmStage, first_pass, load_first_, load_lelm, make_stage, stem_hidden
from songgen.train.lm_data import NOTHING_DROPPED, Dropout, LmBatch, LmSource
from songgen.train.lm_excerpts import cut_truth, excerpts_of
from songgen.train.lm_files import LmSizes, ensure_text_files, load_text
from songgen.train.lm_guide import Guide, Projections, guide_hits, guide_loss
from songgen.train.lm_songs import NOWHERE, LmSong, SongReader, followers, lyric_places
from songgen.train.lm_start import is_second
from songgen.train.loop import LoopSettings, train
from songgen.train.token_codes import codes_path

SIZES = LmSizes(
    width=32,
    num_heads=2,
    ffn_dim=48,
    num_layers=3,
    num_layers_sub=2,
    code_size=2048,
    delay=3,
    max_seconds=8,
    prompt_seconds=1,
    lyric_positions=60,
    description_positions=20,
)
SETTINGS = LmSettings(
    sizes=SIZES,
    batch_positions=450,
    guides=(Guide(1, 0, ahead=0), Guide(2, 1), Guide(2, 0, ahead=0, is_next=True)),
    held_out=1,
)
LOOP = LoopSettings(
    steps=24, learning_rate=8e-3, warmup=2, log_every=1, evaluate_every=0, precision="fp32", optimizer="muon"
)
EVERYTHING_DROPPED = Dropout(everything=1.0, prompt=1.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_small_songs(folder)
    return folder


@pytest.fixture(scope="module")
def work(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Codes as the truth tells them; those of the band are all alike."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "codes").mkdir()
    store = SongStore(data)
    for song in range(len(store)):
        codes = label_codes(frame_labels(store.truth(song)))
        mixed, vocal = (codes[stem].numpy().astype(np.int16) for stem in LABELLED)
        np.save(codes_path(folder, store.number(song)), np.stack([mixed, vocal, mixed * 0 + 11]))
    return folder


@pytest.fixture(scope="module")
def conditioner(data: Path, work: Path) -> TextConditioner:
    store = SongStore(data)
    return load_text(ensure_text_files(work, SIZES, [store.truth(0).descriptions]))[1]


@pytest.fixture(scope="module")
def source(data: Path, work: Path, conditioner: TextConditioner) -> LmSource:
    reader = SongReader(SongStore(data), work, conditioner, [0, 1, 2], needs_stems=True)
    return LmSource(reader, batch_positions=900)


@pytest.fixture(scope="module")
def trained(data: Path, work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`lm` and then `lm-dual`, a few steps each."""
    for part, name in (("first", "lm"), ("dual", "lm-dual")):
        train(stage(data, work, part=part), LOOP, work / name)
    return work


def stage(data: Path, work: Path, **changes: object) -> LmStage:
    return make_stage(data, work, replace(SETTINGS, **changes), LOOP)  # type: ignore[arg-type]


def song_of(source: LmSource, number: int) -> LmSong:
    return source.reader.read(source.reader.whole(number))


def collate(source: LmSource, *songs: int, dropout: Dropout = NOTHING_DROPPED) -> LmBatch:
    wholes = [source.reader.whole(song) for song in songs]
    return source.collate(wholes, np.random.default_rng(0), dropout)


def test_columns_are_those_of_the_pattern_with_an_end(source: LmSource) -> None:
    batch = collate(source, 0, 2)
    config = source.config
    for row, song in enumerate((0, 2)):
        codes = song_of(source, song).codes_KT
        ended = torch.cat([codes, torch.full((3, 1), config.eos)], dim=1)
        own = to_sequence(ended, config.delays, config.special)
        columns = batch.columns_BKS[row]
        assert torch.equal(columns[:, : own.shape[1]], own)
        assert (columns[:, own.shape[1] :] == config.special).all()
        assert torch.equal(batch.is_scored_BKS[row], columns != config.special)
        read = from_sequence(own, config.delays)
        assert (read[:, -1] == config.eos).all() and torch.equal(read[:, :-1], codes)


def test_places_point_at_the_phoneme_that_is_sung(
    source: LmSource, data: Path, conditioner: TextConditioner
) -> None:
    """In the intro at its tag, then at each phoneme in turn, after the last one at it."""
    truth = SongStore(data).truth(0)
    ids = conditioner.lyrics.encode(truth.lyrics)
    places = lyric_places(truth, ids, conditioner)
    labels = frame_labels(truth).phoneme
    assert len(places) == truth.num_frames
    first = conditioner.lyrics.id_of(PHONEMES[0])
    for place, label in zip(places.tolist(), labels.tolist(), strict=True):
        if label:
            assert ids[place] - first == label - 1
    assert ids[int(places[0])] == conditioner.lyrics.id_of("[intro-short]")
    assert ids[int(places[-1])] - first == PHONEMES.index(truth.phonemes[-1].name)
    sung = places[labels > 0]
    assert (sung.diff() >= 0).all() and sung.diff().max() <= 2


def test_what_is_sung_next_is_the_place_that_follows(
    source: LmSource, data: Path, conditioner: TextConditioner
) -> None:
    assert followers(torch.tensor([1, 1, 3, 3, 2])).tolist() == [3, 3, 2, 2, NOWHERE]
    song, truth = song_of(source, 0), SongStore(data).truth(0)
    names = [span.name for span in truth.phonemes]
    first = conditioner.lyrics.id_of(PHONEMES[0])
    ids = conditioner.lyrics.encode(truth.lyrics)
    spoken = [place for place, token in enumerate(ids) if 0 <= token - first < len(PHONEMES)]
    assert int(song.next_phoneme_T[0]) == 1 + PHONEMES.index(names[0])  # after the intro's tag
    for place, follower, label in zip(
        song.places_T.tolist(), song.next_T.tolist(), song.next_phoneme_T.tolist(), strict=True
    ):
        if place == spoken[-1]:
            assert follower == label == NOWHERE
        elif place in spoken:
            assert follower == spoken[spoken.index(place) + 1]
            assert label == 1 + PHONEMES.index(names[spoken.index(place) + 1])


def test_batches_hold_the_places_of_their_columns(source: LmSource) -> None:
    batch = collate(source, 1)
    song = song_of(source, 1)
    num_frames = song.codes_KT.shape[1]
    for held, told in (
        (batch.places_BS, song.places_T),
        (batch.next_BS, song.next_T),
        (batch.next_phoneme_BS, song.next_phoneme_T),
    ):
        assert torch.equal(held[0, 1 : 1 + num_frames], told)
        assert int(held[0, 0]) == NOWHERE and (held[0, 1 + num_frames :] == NOWHERE).all()


def test_lyrics_of_other_phonemes_than_the_truth_are_an_error(
    data: Path, conditioner: TextConditioner
) -> None:
    truth = SongStore(data).truth(0)
    with pytest.raises(ValueError, match="make the songs again"):
        lyric_places(truth, conditioner.lyrics.encode("[verse] Other words."), conditioner)


def test_a_dropped_row_is_the_null_row_of_inference(source: LmSource, conditioner: TextConditioner) -> None:
    truth = song_of(source, 0)
    told = conditioner.of_request(truth.lyrics, truth.descriptions, bgm=False)
    batch = collate(source, 0, dropout=EVERYTHING_DROPPED)
    for name in ("lyric_ids", "structure_rows", "description_ids", "prompt_ids"):
        assert torch.equal(getattr(batch.conditions, name)[0], getattr(told, name)[1]), name
    assert (torch.stack([batch.places_BS, batch.next_BS, batch.next_phoneme_BS]) == NOWHERE).all()
    batch = collate(source, 0)
    for name in ("lyric_ids", "structure_rows", "description_ids", "prompt_ids"):
        assert torch.equal(getattr(batch.conditions, name)[0], getattr(told, name)[0]), name


def test_prompts_are_mixed_codes_of_the_song_alone(source: LmSource) -> None:
    dropout = Dropout(everything=0.0, description=0.0, prompt=1.0, foreign_prompt=0.0)
    batch = collate(source, 0, dropout=dropout)
    config, prompt = source.config, batch.conditions.prompt_ids[0]
    assert int(prompt[0, 0]) == config.eos
    assert (prompt[1:] == config.special).all()
    codes = song_of(source, 0).codes_KT[0]
    cuts = codes.unfold(0, config.prompt_frames, 1)
    assert (cuts == prompt[0, 1 : 1 + config.prompt_frames]).all(1).any()


def test_excerpts_are_songs_of_some_sections(source: LmSource, data: Path) -> None:
    """A verse alone: its words and phonemes from the first frame of its first consonant on."""
    truth = SongStore(data).truth(0)
    (found,) = excerpts_of(truth, 0, longest=500)
    assert (found.first, found.last, found.stop) == (1, 1, truth.num_frames)
    assert found.start == int(truth.phonemes[0].start * 25)
    cut = cut_truth(truth, found)
    assert cut.lyrics == truth.lyrics.split(" ; ")[1]
    assert [span.name for span in cut.phonemes] == [span.name for span in truth.phonemes]
    own, whole = source.reader.read(found), song_of(source, 0)
    assert torch.equal(own.codes_KT, whole.codes_KT[:, found.start :])
    assert torch.equal(own.next_phoneme_T, whole.next_phoneme_T[found.start :])
    shift = whole.places_T[-1] - own.places_T[-1]
    assert torch.equal(own.places_T[1:] + shift, whole.places_T[found.start + 1 :])
    assert not list(excerpts_of(truth, 0, longest=found.num_frames - 1))
    batch = source.batch(np.random.default_rng(0), Dropout(excerpt=1.0))
    assert batch.is_scored_BKS[:, 0].sum(1).max() - 1 <= max(item.num_frames for item in source.excerpts)


def test_some_codes_are_read_wrong_and_scored_right(source: LmSource) -> None:
    told = collate(source, 0)
    batch = collate(source, 0, dropout=replace(NOTHING_DROPPED, codes=0.2, stem_codes=0.6))
    assert torch.equal(told.inputs_BKS, told.columns_BKS)
    assert torch.equal(batch.columns_BKS, told.columns_BKS)
    is_other = batch.inputs_BKS != told.columns_BKS
    mixed, vocal = (float(is_other[:, row][batch.is_scored_BKS[:, row]].float().mean()) for row in (0, 1))
    assert 0.05 < mixed < 0.25 and 0.35 < vocal < 0.65
    assert not is_other[told.columns_BKS >= source.config.eos].any()


def test_wrong_codes_come_in_spans_of_another_place(source: LmSource) -> None:
    told, (num_frames, start) = collate(source, 0), (100, 1 + source.config.delays[0])
    spans = replace(NOTHING_DROPPED, codes=0.3, span=16)
    batches = [source.collate([source.reader.whole(0)], np.random.default_rng(n), spans) for n in range(20)]
    codes = told.columns_BKS[0, 0, start : start + num_frames]
    wrong = [batch.inputs_BKS[0, 0, start : start + num_frames] != codes for batch in batches]
    share = float(torch.stack(wrong).float().mean())
    assert 0.1 < share < 0.35  # other places may have the same codes
    begins = sum(int((row[1:] & ~row[:-1]).sum()) for row in wrong)
    assert share * num_frames * len(wrong) / begins > 3
    assert all(torch.equal(batch.inputs_BKS[:, 1:], told.inputs_BKS[:, 1:]) for batch in batches)
    for batch, is_wrong in zip(batches, wrong, strict=True):
        places = batch.places_BS[0, start : start + num_frames]
        assert torch.equal(
            places == NOWHERE, is_wrong
        )  # a model cannot know where it is while it is told lies


def test_beats_are_left_out_of_the_mixed_codes_that_are_read(source: LmSource) -> None:
    told, no_beats = collate(source, 0), collate(source, 0, dropout=replace(NOTHING_DROPPED, beats=1.0))
    frames = slice(1 + source.config.delays[0], 101 + source.config.delays[0])
    codes = told.columns_BKS[0, 0, frames]
    assert torch.equal(no_beats.inputs_BKS[0, 0, frames], without_beats(codes))
    assert (without_beats(codes) != codes).any() and torch.equal(no_beats.columns_BKS, told.columns_BKS)
    assert torch.equal(no_beats.inputs_BKS[:, 1:], told.inputs_BKS[:, 1:])
    assert torch.equal(no_beats.places_BS, told.places_BS)


def test_a_batch_is_a_function_of_the_generator(source: LmSource) -> None:
    one, same = (source.batch(np.random.default_rng(5), Dropout()) for _ in range(2))
    assert torch.equal(one.columns_BKS, same.columns_BKS)
    assert torch.equal(one.conditions.lyric_ids, same.conditions.lyric_ids)
    assert torch.equal(one.conditions.prompt_ids, same.conditions.prompt_ids)


def test_songs_without_codes_are_said_to_be_missing(
    data: Path, work: Path, conditioner: TextConditioner, tmp_path: Path
) -> None:
    store, path = SongStore(data), codes_path(tmp_path, 1)
    with pytest.raises(FileNotFoundError, match="no tokens; run `songgen train codes` first"):
        SongReader(store, tmp_path, conditioner, [0], needs_stems=True)
    path.parent.mkdir()
    path.write_bytes(codes_path(work, 1).read_bytes())
    assert SongReader(store, tmp_path, conditioner, [0, 1], needs_stems=True).songs == [1]


def test_the_first_part_learns_from_the_truth_alone(
    data: Path, work: Path, conditioner: TextConditioner, tmp_path: Path
) -> None:
    told = SongReader(SongStore(data), tmp_path, conditioner, [0, 1], needs_stems=False)
    read = SongReader(SongStore(data), work, conditioner, [0, 1], needs_stems=True)
    assert told.songs == [0, 1] and told.codes(1).shape == read.codes(1).shape
    assert torch.equal(told.codes(1)[0], read.codes(1)[0]) and not told.codes(1)[1:].any()


def test_too_few_codes_for_what_is_sung_are_refused(data: Path, work: Path, tmp_path: Path) -> None:
    sizes = replace(SIZES, code_size=1024)
    with pytest.raises(ValueError, match="there are 1024 codes; what is sung and played needs at least 1820"):
        stage(data, tmp_path, sizes=sizes)


def test_training_computes_the_logits_of_inference(
    data: Path, source: LmSource, trained: Path, conditioner: TextConditioner
) -> None:
    """One song, two paths: the training pass over all columns, and cached steps, for both parts."""
    lelm = load_lelm(data, trained, SETTINGS)
    batch = collate(source, 0)
    num_columns = batch.columns_BKS.shape[2] - 1
    song = song_of(source, 0)
    with torch.no_grad():
        first = first_pass(lelm, batch, num_columns, set())
        logits = [
            lelm.logits_first(first.hidden_BSD),
            *lelm.logits_stems(stem_hidden(lelm, batch, first)),
        ]
        slots = LelmSlots(lelm, 1)
        slots.prefill(0, conditioner.of_request(song.lyrics, song.descriptions, bgm=False))
        for column in range(num_columns):
            fed = batch.columns_BKS[:, :, column]
            conditional, _ = slots.step(fed, torch.tensor([column]), slots.capacity)
            for row in range(3):
                expected = conditional[0, row]
                torch.testing.assert_close(logits[row][0, column], expected, rtol=1e-3, atol=1e-3)


def test_the_loss_falls_and_guides_find_the_phonemes(trained: Path) -> None:
    lines = read_losses(trained / "lm/losses.jsonl")
    told = [line for line in lines if "loss" in line]
    assert told[-1]["code_0"] < 0.8 * told[0]["code_0"]
    assert all(told[-1][f"guide_{number}"] < 0.9 * told[0][f"guide_{number}"] for number in range(3))
    assert "held_out/looks_0" in lines[-1] and "held_out/text_gain" in lines[-1]
    told = [line for line in read_losses(trained / "lm-dual/losses.jsonl") if "loss" in line]
    assert told[-1]["code_1"] < told[0]["code_1"] and told[-1]["code_2"] < told[0]["code_2"]


def test_guides_of_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="guides name layer 3, the network has layers 0 to 2: give it more"):
        replace(SETTINGS, guides=(Guide(3, 0),))
    assert replace(SETTINGS, part="dual", guides=(Guide(3, 0),)).guides


def test_a_batch_that_is_told_nothing_has_a_loss(data: Path, work: Path) -> None:
    own = stage(data, work, dropout=EVERYTHING_DROPPED)
    loss, facts = own.loss(own.batch(np.random.default_rng(0)), 0)
    assert torch.isfinite(loss) and facts["phoneme"] == facts["guide_0"] == 0


def test_each_part_moves_its_own_tensors_only(data: Path, trained: Path) -> None:
    first, both = (
        torch.load(trained / name / "checkpoint.pt", weights_only=True)["module"]
        for name in ("lm", "lm-dual")
    )
    changed = {name for name in first if not torch.equal(first[name], both[name])}
    assert changed and all(is_second(name.removeprefix("lelm.")) for name in changed)
    own = stage(data, trained, part="dual")
    loss, _ = own.loss(own.batch(np.random.default_rng(0)), 0)
    loss.backward()
    for name, parameter in own.module.lelm.named_parameters():
        if not is_second(name):
            assert parameter.grad is None, name
    assert own.module.lelm.transformer2.model.layers[0].mlp.up_proj.weight.grad is not None


def test_stems_do_not_learn_to_end_a_song(data: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bgm codes that ended in the first frame ended the song: only mixed codes shall."""
    scored: list[torch.Tensor] = []

    def code_loss(logits: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scored.append(codes)
        return logits.mean(), logits.mean()

    monkeypatch.setattr(lm, "code_loss", code_loss)
    for part, ends in (("first", True), ("dual", False)):
        own = stage(data, trained, part=part)
        scored.clear()
        own.loss(own.batch(np.random.default_rng(0)), 0)
        assert scored and all(bool((codes == own.module.lelm.config.eos).any()) == ends for codes in scored)


def test_the_second_part_starts_its_own_tables(data: Path, trained: Path) -> None:
    """What `lm` saved of them was drawn before there were codebooks to start from; the rest comes from it."""
    path = trained / "lm/checkpoint.pt"
    saved = torch.load(path, weights_only=True)["module"]
    own = stage(data, trained, part="dual").module.state_dict()
    torch.manual_seed(LOOP.seed)
    for name, value in saved.items():
        if not is_second(name.removeprefix("lelm.")):
            assert torch.equal(own[name], value), name
    spoilt = {name: torch.zeros_like(value) for name, value in saved.items()}
    checkpoint = torch.load(path, weights_only=True) | {"module": spoilt}
    folder = trained / "spoilt"
    folder.mkdir()
    torch.save(checkpoint, folder / "checkpoint.pt")
    module = stage(data, trained, part="dual").module
    load_first_(module, folder)
    assert module.lelm.emb[0].weight.abs().max() == 0
    assert module.lelm.layer2_emb["1"].weight.abs().max() > 0


def test_the_second_part_needs_the_first(data: Path, work: Path, tmp_path: Path) -> None:
    (tmp_path / "codes").symlink_to(work / "codes")
    with pytest.raises(FileNotFoundError, match="songgen train lm"):
        stage(data, tmp_path, part="dual")


def test_guides_read_the_weights_that_attention_uses() -> None:
    config = LlamaConfig(16, 16, 2, 2, 1e4, 12)
    torch.manual_seed(0)
    llama = Llama(config)
    rope = RotaryTable.build(config, torch.float32, torch.device("cpu"))
    inputs, kept = torch.randn(1, 12, 16), Projections()
    with kept.of(llama, {1}):
        llama.prompt(inputs, rope, None)
    whole = torch.cat([kept.weights(llama, Guide(1, head), rope, 0, slice(0, 12)) for head in range(2)])
    torch.testing.assert_close(whole.sum(-1), torch.ones(2, 12))
    assert (whole.triu(1) == 0).all()
    some = kept.weights(llama, Guide(1, 1), rope, 5, slice(2, 4))
    torch.testing.assert_close(some[0], whole[1, 5:, 2:4])


def test_the_guides_loss_is_least_at_the_right_token() -> None:
    places = torch.tensor([[2, NOWHERE, 0]])
    right, beside, wrong = (torch.full((1, 3, 5), 1e-3) for _ in range(3))
    right[0, 0, 2] = right[0, 2, 0] = 0.9
    beside[0, 0, 3] = beside[0, 2, 1] = 0.9
    wrong[0, 0, 4] = wrong[0, 2, 4] = 0.9
    losses = [float(guide_loss(weights, places)) for weights in (right, beside, wrong)]
    assert losses[0] < 0.2 < losses[1] < 2 < losses[2]
    assert [guide_hits(weights, places) for weights in (right, beside, wrong)] == [(2, 2), (2, 2), (0, 2)]
    assert float(guide_loss(right, torch.full((1, 3), NOWHERE))) == 0


def test_the_text_files_stay_with_their_first_vocabulary(tmp_path: Path) -> None:
    folder = ensure_text_files(tmp_path, SIZES, ["female, pop", "male, rock"])
    _, text = load_text(folder)
    before = text.descriptions.encode("female, pop")
    assert len(before) <= 4
    ensure_text_files(tmp_path, replace(SIZES, sampling={"top_k": 7}), ["other, words"])
    config, text = load_text(folder)
    assert text.descriptions.encode("female, pop") == before and config.sampling.top_k == 7
    assert config.own.lyric_text == "phonemes" and not config.own.separator
