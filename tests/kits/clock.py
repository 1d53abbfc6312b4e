"""A clock that the test moves."""


class Clock:
    """Called, it tells the time; nobody waits."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.sleeps.append(seconds)
        self.now += seconds
        assert len(self.sleeps) < 3000, "it does not come to an end"
