"""What is said of an ingest while it is at work."""

from embed_assets.tell.pace import Pace
from embed_worker.steps.raw import Progress


def test_a_line_each_half_minute_with_percent_speed_and_time_left() -> None:
    now, said = [0.0], list[str]()
    pace = Pace(said.append, clock=lambda: now[0])
    for second in range(0, 100, 10):
        now[0] = second
        pace(Progress(1_000_000_000 + second * 10_000_000, 4_000_000_000, second * 1000, second * 10_000_000))
    assert said == [
        "32% of 4,000 MB read at 10.0 MB/s, 30,000 rows, about 4 min left",
        "40% of 4,000 MB read at 10.0 MB/s, 60,000 rows, about 4 min left",
        "48% of 4,000 MB read at 10.0 MB/s, 90,000 rows, about 4 min left",
    ]
