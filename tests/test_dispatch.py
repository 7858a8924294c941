"""Many requests at once, in a time that passes only when nothing else can happen."""

import asyncio
import random
from collections import Counter

import pytest

from text2grad.dispatch import Later, Pace, backoff_seconds, dispatch


class VirtualTime(asyncio.SelectorEventLoop):
    """Sleeps take no time; `time()` says how long they would have taken."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def time(self):
        return self.now

    def _run_once(self):
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0]._when)
        super()._run_once()


def run(jobs, attempt, concurrency):
    """The virtual seconds that it took."""
    loop = VirtualTime()
    try:
        loop.run_until_complete(dispatch(jobs, attempt, concurrency))
        return loop.now
    finally:
        loop.close()


@pytest.mark.parametrize(
    ("failures", "draw", "retry_after", "seconds"),
    [
        (1, 0.0, None, 0.25),  # 0.5 * (0.5 + 0.5 * 0)
        (1, 0.5, None, 0.375),
        (2, 0.5, None, 0.75),
        (3, 0.5, None, 1.5),
        (20, 1.0, None, 30.0),  # the longest
        (1, 0.5, 2.0, 2.375),
        (9, 1.0, 2.0, 2.5),  # what the server asks for, and half a second at most
    ],
)
def test_backoff(failures, draw, retry_after, seconds):
    assert backoff_seconds(failures, lambda: draw, retry_after) == pytest.approx(seconds, abs=1e-9)


def test_one_that_waits_gives_its_place_to_another():
    tries = Counter()

    async def attempt(job):
        tries[job] += 1
        await asyncio.sleep(1.0)
        return Later(100.0) if job == 0 and tries[job] == 1 else None

    # 0 alone (1 s), its 100 s of waiting hide the 8 others (two at a time: 4 s), then 0 again
    assert run(range(9), attempt, 2) == pytest.approx(102.0)
    assert tries == {0: 2, **dict.fromkeys(range(1, 9), 1)}


def test_never_sooner_than_the_server_asks_for():
    times = []

    async def attempt(job):
        times.append(asyncio.get_running_loop().time())
        return Later(7.0, busy=True) if len(times) < 3 else None

    run([0], attempt, 4)
    assert times == pytest.approx([0.0, 7.0, 14.0])


def test_the_first_goes_alone_and_never_more_than_allowed():
    active, most, first = 0, 0, []

    async def attempt(job):
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(1.0)
        if job == 0:
            first.append(most)
        active -= 1

    assert run(range(41), attempt, 8) == pytest.approx(1 + 40 / 8)
    assert (first, most) == ([1], 8)


def test_where_the_server_is_known_the_first_goes_with_the_others():
    async def attempt(job):
        await asyncio.sleep(1.0)

    loop = VirtualTime()
    loop.run_until_complete(dispatch(range(40), attempt, 8, is_open=True))
    assert loop.now == pytest.approx(40 / 8)
    loop.close()


def test_a_server_that_refuses_everything_is_not_shown_the_whole_list():
    shown = set()

    async def attempt(job):
        shown.add(job)
        if asyncio.get_running_loop().time() > 100.0:
            raise ValueError("enough")
        return Later(1.0, busy=True)

    with pytest.raises(ValueError, match="enough"):
        run(range(10_000), attempt, 8)
    assert len(shown) <= 16


def test_an_error_starts_nothing_new_and_loses_nothing_that_is_under_way():
    finished, started = [], []

    async def attempt(job):
        started.append(job)
        if job == 2:
            raise ValueError("no more")
        await asyncio.sleep(5.0 if job else 0.0)
        finished.append(job)

    with pytest.raises(ValueError, match="no more"):
        run(range(100), attempt, 4)
    assert started == [0, 1, 2, 3, 4]
    assert sorted(finished) == [0, 1, 3, 4]


def test_the_pace_halves_when_more_than_a_quarter_is_refused_and_recovers():
    pace = Pace(64)
    assert pace.limit == 1
    pace.note(busy=False)
    assert pace.limit == 64
    for n in range(63):  # a window of 64 with the first: 16 refused are a quarter, no more
        pace.note(busy=n < 16)
    assert pace.limit == 64
    for n in range(64):
        pace.note(busy=n < 17)
    assert pace.limit == 32
    for _ in range(32):
        pace.note(busy=False)
    assert pace.limit == 36  # an eighth more
    for _ in range(36 * 9):
        pace.note(busy=True)
    assert pace.limit == 1


def test_a_server_of_little_room_is_not_hammered():
    """It takes 4 at a time and refuses the others: few of the requests may be refusals."""
    active, refused, done = 0, 0, 0

    async def attempt(job):
        nonlocal active, refused, done
        if active >= 4:
            refused += 1
            return Later(1.0, busy=True)
        active += 1
        await asyncio.sleep(1.0)
        active -= 1
        done += 1
        return None

    seconds = run(range(2000), attempt, 64)
    assert done == 2000
    assert refused < 2000
    assert seconds < 1.5 * 2000 / 4


def test_two_thousand_among_faults_take_little_more_than_their_share():
    """21 % fail, for seven reasons alike: two of them busy, one with a wait, one a time-out of 2 s.

    What the ideal leaves out and no order of the requests can: the first goes alone, the time-outs,
    and at the end the few that failed several times.
    """
    draws, calls, ends = random.Random(1), [], []

    async def attempt(job):
        calls.append(job)
        fault = draws.random()
        await asyncio.sleep(2.0 if fault < 0.03 else 1.0)
        ends.append(asyncio.get_running_loop().time())
        if fault >= 0.21:
            return None
        wait = backoff_seconds(1, draws.random, 1.0 if fault >= 0.18 else None)
        return Later(wait, busy=fault >= 0.12)

    took = run(range(2000), attempt, 64)
    assert set(calls) == set(range(2000))
    assert len(calls) == pytest.approx(2000 / 0.79, rel=0.05)
    assert took < 1.25 * len(calls) / 64
    before = len(ends) * 9 // 10  # until only the last few are left
    assert ends[before - 1] < 1.1 * before / 64
