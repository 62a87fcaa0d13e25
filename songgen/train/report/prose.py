"""What the page says in words, whatever the numbers are."""

from __future__ import annotations

INTRO = """\
`nano` is a small model of LeVo's kind that songgen trains from nothing, on songs that songgen makes itself:
verses, composition, voice and band are synthetic (`songgen train synth`), so everything that is true of
them is known: words, phonemes, notes, chords, beats. It runs through the same code as the published
checkpoints. It knows English, two synthetic voices and the styles that its songs have; it was made to sing
in tune, in time and with understandable words, and knows no other music. This page is written by `songgen
train report`: every number is measured on songs and lyrics that no stage was trained on, and what did not
work is listed too.
"""

METHODS = """\
* **Intervals** are 95 % bootstrap intervals over songs (`n`). Takes of the same lyrics count as one song.
* **Phoneme error rate**: a recogniser of our own, trained on the true vocal stems of the training songs
  with noise, leaking band, equaliser and blur added, a share of them as the autoencoder gives them back
  (`recogniser.synthesised` of the recipe), hears the phonemes of a whole vocal stem; they are aligned with
  those of the lyrics. It sees about a second, so it cannot guess words from their context, and it knows these
  voices and their sound: its rate says how well the words can be made out by one who knows them, and no
  listener was asked. `by chance` is what it hears in generated vocals against the lyrics of another song.
* **Scale**: a song's key is not asked for, so it is taken from the generated song: the one of the 24 major
  and natural minor scales that most voiced frames belong to (YIN, 25 frames a second). A pitch is in scale
  if it is within 50 cents of a note of it. Seven of twelve pitch classes are 58 % for random pitches in a
  given scale; taking the best scale gives more, and `by chance` is that number for each song's own notes,
  moved at random and scored the same way. Slides and vibrato count against it. The stricter row takes the
  scale from the band stem alone.
* **Beat strength**: autocorrelation of the mix's onsets at the tempo asked for; `by chance` is the same at
  the tempo of another song.
* **Autoencoder alone**: the true stems as latents and back. A decoder that is a synthesiser of tones and
  noise (`songgen/train/additive.py`) has no encoder; its latents are then levels measured of the true stems,
  with the true pitch known.
* **Mel distance**: mean absolute difference, 80 bands, 50 frames a second, cut 60 dB below the loudest
  place.
* **Leakage**: the mel power of a rendered stem explained by the two true stems, a factor each; it is the
  other stem's factor.
* **Length**: generated songs are cut at 1.5 times the true song's length and 4 s; those do not end by
  themselves.
"""

NO_FAILURES = """\
No aim that was measured was missed. How far songs are from true ones elsewhere, the tables say."""

REPRODUCE = """\
```sh
songgen train all data=DATA work=WORK out=MODEL   # all stages; a second call goes on
songgen train report data=DATA work=WORK out=MODEL
sh generate.sh nano sample/lyrics.jsonl output    # the model as it is shipped
```
"""

LICENCE = """\
The songs are made by songgen's own code from its own word lists and rules: no recordings, melodies or
lyrics of others are in them, and no published weights were used. Words are spoken by espeak-ng, put on
notes by WORLD, and accompanied by FluidSynth with TimGM6mb; none of these, and no sample of theirs, is part
of the model. [DATA_LICENCES.md](DATA_LICENCES.md) names every licence. The weights are under songgen's
licence, Apache-2.0.
"""
