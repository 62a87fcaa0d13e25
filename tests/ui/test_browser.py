"""The page in a real browser: Debian's Chromium makes whole songs with the tiny model.

Screenshots are left in `build/screenshots`. Every test ends with: nothing was asked of another machine.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fake_audio import music
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from songgen.audio import Audio, read_audio, write_audio
from songgen.config import ui_config
from songgen.ui.page import text_to_tags_script
from songgen.ui.server import PageServer

if TYPE_CHECKING:
    from songgen.models.levo.model import LevoModel

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--mute-audio",
]  # fmt: skip
PATIENCE = 60_000.0  # milliseconds: a busy machine is slow

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:::gradio"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """Chromium with an empty profile and a common window."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            viewport={"width": 1280, "height": 900},
        )
        context.set_default_timeout(PATIENCE)
        yield context
        context.close()


@pytest.fixture
def server(tmp_path: Path, tiny: LevoModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[PageServer]:
    """The page of the tiny model on a free port; its folder is given as users do, from the working folder."""
    monkeypatch.chdir(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = ui_config(["model=tiny", "output.dir=output", f"ui.port={port}", "ui.max_upload_mb=1"])
    with PageServer(tiny, config) as running:
        yield running


@pytest.fixture
def page(context: BrowserContext, server: PageServer) -> Iterator[Page]:
    """The page, opened; at the end: it spoke to its own server alone, and its scripts broke nowhere."""
    page = context.new_page()
    asked: list[str] = []
    broken: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: broken.append(str(error)))
    expect.set_options(timeout=PATIENCE)
    page.goto(server.url)
    expect(page.locator("#sg-make")).to_be_visible()
    yield page
    page.close()
    assert len(asked) > 10
    assert not [url for url in asked if not url.startswith((server.url, "data:", "blob:"))]
    assert not broken


@pytest.fixture
def screenshots(repository: Path) -> Path:
    folder = repository / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def lyrics_of(page: Page) -> str:
    return page.locator("#sg-lyrics textarea").input_value()


def write(page: Page, words: str, *, seconds: float) -> None:
    page.fill("#sg-lyrics textarea", words)
    page.fill("#sg-seconds input, #sg-seconds textarea", f"{seconds:g}")


def wait_until_made(page: Page, count: int) -> None:
    expect(page.locator("#sg-queue .sg-made")).to_have_count(count)


def fetched(page: Page, number: int, folder: Path) -> Path:
    """The n-th file of the song that is shown, downloaded as a user would."""
    with page.expect_download() as download:
        page.locator("#sg-details a.sg-file").nth(number).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_a_whole_song_and_the_same_again(
    page: Page, server: PageServer, tmp_path: Path, screenshots: Path
) -> None:
    page.click("#sg-sampling > button")
    for field in ("bpm", "seconds", "seed", "temperature", "top_k"):  # no number field may begin with 0
        assert page.locator(f"#sg-{field} input, #sg-{field} textarea").input_value() == "", field
    page.click("#sg-sampling > button")
    expect(page.locator("#sg-noise")).to_contain_text("makes noise, not music")
    page.screenshot(path=screenshots / "page-start.png")
    page.click("#sg-add-verse")
    expect(page.locator("#sg-lyrics textarea")).to_be_focused()
    page.keyboard.type("Harbour lights are burning low. Tell me which way I should go")
    page.click("#sg-add-outro-short")
    expect(page.locator("#sg-lyrics textarea")).to_have_value(
        "[verse] Harbour lights are burning low. Tell me which way I should go\n[outro-short]"
    )
    expect(page.locator("#sg-findings")).to_contain_text("the last sentence has no period")
    for dimension, tag in (("gender", "female"), ("genre", "folk"), ("timbre", "warm")):
        page.check(f"#sg-tags-{dimension} input[name={tag}]")
    expect(page.locator("#sg-descriptions textarea")).to_have_value("female, folk, warm")
    page.locator("#sg-bpm input, #sg-bpm textarea").press_sequentially("90")
    expect(page.locator("#sg-descriptions textarea")).to_have_value("female, folk, warm, the bpm is 90")
    page.locator("#sg-descriptions textarea").press_sequentially(", guitar")
    expect(page.locator("#sg-tags-instrument input[name=guitar]")).to_be_checked()
    page.uncheck("#sg-tags-instrument input[name=guitar]")
    expect(page.locator("#sg-descriptions textarea")).to_have_value("female, folk, warm, the bpm is 90")
    page.screenshot(path=screenshots / "page-lyrics.png")
    page.click("#sg-mend button, button#sg-mend")
    expect(page.locator("#sg-lyrics textarea")).to_have_value(
        "[verse] Harbour lights are burning low. Tell me which way I should go.\n[outro-short]"
    )
    expect(page.locator("#sg-findings")).not_to_contain_text("no period")
    page.fill("#sg-seconds input, #sg-seconds textarea", "8")
    page.fill("#sg-name input, #sg-name textarea", "harbour lights")
    page.click("#sg-type input")
    page.get_by_role("option", name="All three").click()
    page.click("#sg-make")
    expect(page.locator("#sg-message")).to_contain_text("harbour lights is in the queue, seed")
    expect(page.locator("#sg-queue .sg-making")).to_contain_text("harbour lights")
    expect(page.locator("#sg-queue .sg-state")).to_contain_text("composing")
    page.screenshot(path=screenshots / "page-making.png")
    wait_until_made(page, 1)
    for stem in ("mixed", "vocal", "bgm"):
        expect(page.locator(f"#sg-play-{stem}")).to_contain_text("0:08")
    page.wait_for_timeout(1000)  # the waveforms are drawn
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot(path=screenshots / "page.png")

    first = [fetched(page, number, tmp_path) for number in range(3)]
    assert [path.name for path in first] == [
        "harbour lights.wav", "harbour lights_vocal.wav", "harbour lights_bgm.wav"
    ]  # fmt: skip
    for path in first:
        audio = read_audio(path)
        assert (audio.sample_rate, audio.samples.shape) == (48000, (2, 8 * 48000))
        assert np.abs(audio.samples).max() > 0.01
        assert path.read_bytes() == (server.config.output.dir / "audio" / path.name).read_bytes()

    page.fill("#sg-lyrics textarea", "")
    page.click("#sg-again button, button#sg-again")
    expect(page.locator("#sg-message")).to_contain_text("press Make for the same song")
    assert "[verse] Harbour lights" in lyrics_of(page)
    page.click("#sg-make")
    wait_until_made(page, 2)
    expect(page.locator("#sg-songs .sg-song")).to_have_count(2)
    expect(page.locator("#sg-songs [aria-current]")).to_contain_text("harbour lights-2")
    expect(page.locator("#sg-details a.sg-file").first).to_contain_text("harbour lights-2.wav")
    for number, path in enumerate(first):
        assert fetched(page, number, tmp_path).read_bytes() == path.read_bytes()
    page.locator("#sg-songs .sg-song").nth(1).click()
    expect(page.locator("#sg-details a.sg-file").first).to_contain_text("harbour lights.wav")


def test_songs_are_cancelled_and_a_reload_forgets_nothing(page: Page, server: PageServer) -> None:
    write(page, "[verse] One line of words.", seconds=60)
    page.click("#sg-make")
    expect(page.locator("#sg-queue .sg-state")).to_contain_text("left")
    page.click("#sg-make")
    expect(page.locator("#sg-queue .sg-waiting")).to_contain_text("song-2")
    page.locator("#sg-queue .sg-waiting .sg-cancel").click()
    expect(page.locator("#sg-queue .sg-cancelled")).to_contain_text("song-2")
    page.locator("#sg-queue .sg-making .sg-cancel").click()
    expect(page.locator("#sg-queue .sg-cancelled")).to_have_count(2)
    write(page, "[verse] One line of words.", seconds=2)
    page.click("#sg-make")
    wait_until_made(page, 1)
    page.reload()
    wait_until_made(page, 1)
    expect(page.locator("#sg-songs .sg-song")).to_have_count(1)
    expect(page.locator("#sg-play-mixed")).to_contain_text("0:02")
    assert sorted(path.name for path in (server.config.output.dir / "audio").iterdir()) == ["song.wav"]


def test_clips_are_checked(page: Page, server: PageServer, tmp_path: Path) -> None:
    """One that is too large, and one that is no audio, is refused in words; a good one sets the style."""
    good, large, fake = tmp_path / "good.wav", tmp_path / "large.wav", tmp_path / "fake.wav"
    write_audio(good, Audio(music(1.0), 48000))
    write_audio(large, Audio(music(6.0), 48000))
    fake.write_text("not audio")
    write(page, "[verse] One line of words.", seconds=1)
    page.click("#sg-style > button")
    page.set_input_files("#sg-clip input[type=file]", large)
    expect(page.get_by_text("exceed the maximum allowed size")).to_be_visible()
    page.reload()
    write(page, "[verse] One line of words.", seconds=1)
    page.click("#sg-style > button")
    page.set_input_files("#sg-clip input[type=file]", fake)
    page.click("#sg-make")
    expect(page.locator("#sg-message")).to_contain_text("fake.wav: cannot be read as audio")
    page.reload()
    write(page, "[verse] One line of words.", seconds=1)
    page.click("#sg-style > button")
    page.set_input_files("#sg-clip input[type=file]", good)
    expect(page.locator("#sg-clip")).to_contain_text("0:01")
    page.click("#sg-make")
    wait_until_made(page, 1)
    song: Any = server.desk.history.find("song")
    assert song.record["request"]["prompt_audio_path"].startswith(str(server.temporary))


def test_tags_and_description_are_one_thing(page: Page) -> None:
    """Their order is part of what the model reads: nothing is sorted, and quick clicks lose nothing."""
    description = page.locator("#sg-descriptions textarea")
    tempo = page.locator("#sg-bpm input, #sg-bpm textarea")
    description.fill("my own, Male, the bpm is 97")  # as pasted
    expect(page.locator("#sg-tags-gender input[name=male]")).to_be_checked()
    expect(tempo).to_have_value("97")
    for dimension, tag in (("genre", "folk"), ("genre", "pop"), ("genre", "R&B"), ("timbre", "warm")):
        page.check(f"#sg-tags-{dimension} input[name='{tag}']")
    expect(description).to_have_value("my own, Male, the bpm is 97, folk, pop, R&B, warm")
    page.uncheck("#sg-tags-genre input[name=pop]")
    page.uncheck("#sg-tags-gender input[name=male]")
    expect(description).to_have_value("my own, the bpm is 97, folk, R&B, warm")
    tempo.press("End")
    tempo.press("Backspace")
    expect(description).to_have_value("my own, folk, R&B, warm")
    expect(tempo).to_have_value("9")  # still being typed
    tempo.press_sequentially("0")
    expect(description).to_have_value("my own, folk, R&B, warm, the bpm is 90")
    tempo.fill("121")
    expect(description).to_have_value("my own, folk, R&B, warm, the bpm is 121")


@pytest.mark.parametrize(
    ("description", "asked_with", "in_the_field", "shown"),
    [
        ("folk", "9", "90", "90"),  # typed on while the page answered for the first digit
        ("folk", "9", "9", "9"),
        ("folk", "90", "90", ""),  # a whole tempo that the description has no more
        ("folk, the bpm is 97", "9", "90", "97"),
    ],
)
def test_a_late_answer_leaves_the_tempo_that_was_typed_since(
    context: BrowserContext, description: str, asked_with: str, in_the_field: str, shown: str
) -> None:
    page = context.new_page()
    page.set_content(f'<div id="sg-bpm"><input value="{in_the_field}"></div>')
    answer = page.evaluate(
        f"([text, tempo]) => ({text_to_tags_script()})(text, tempo)", [description, asked_with]
    )
    assert answer[-1] == shown and ["folk"] in answer[:-1]
    page.close()
