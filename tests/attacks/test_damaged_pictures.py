"""However a picture is damaged, it is taken or refused in a sentence; `make fuzz` goes on for longer."""

from benchmarks.run.reliability.fuzz import fuzz

SECONDS = 20.0


def test_a_damaged_picture_is_taken_or_refused() -> None:
    outcomes = fuzz(SECONDS, seed=1)
    assert outcomes["taken"] > 100
    assert outcomes["InvalidImage"] > 100
    assert set(outcomes) <= {"taken", "InvalidImage", "UnsupportedImage", "ImageTooLarge"}
