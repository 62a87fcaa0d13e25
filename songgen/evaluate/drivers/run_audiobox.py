"""Audiobox Aesthetics of some songs, run by a Python that has the package `audiobox_aesthetics`.

Reads one JSON object from standard input, `{"paths": [...], "checkpoint": path or null}`. Prints one JSON
object a song, in order, behind a tab-ended mark that tells it from what the packages print: the scores, or
`{"error": ...}`.
"""

import json
import sys

MARK = "songgen-score\t"


def main() -> None:
    """Score every song by itself, so that one that cannot be read fails alone."""
    from audiobox_aesthetics.infer import initialize_predictor

    task = json.load(sys.stdin)
    predictor = initialize_predictor(task["checkpoint"])
    for path in task["paths"]:
        try:
            scores = predictor.forward([{"path": path}])[0]
        except (OSError, RuntimeError, ValueError) as error:
            scores = {"error": f"{type(error).__name__}: {error}"}
        print(MARK + json.dumps(scores), flush=True)


if __name__ == "__main__":
    main()
