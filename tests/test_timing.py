"""The fastest way, on a clock that the ways themselves move."""

import pytest

from text2grad.timing import fastest


class Machine:
    """Runs take what they are given, one list entry after the other and then the last again."""

    def __init__(self, **seconds):
        self.now, self.seconds, self.order = 0.0, seconds, []

    def ways(self):
        return {name: lambda name=name: self.run(name) for name in self.seconds}

    def run(self, name):
        self.order.append(name)
        left = self.seconds[name]
        self.now += left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize(
    ("margin", "winner"), [(1.0, "second"), (1.2, "second"), (1.3, "first"), (2.0, "first")]
)
def test_another_has_to_be_faster_by_the_margin(margin, winner):
    machine = Machine(first=[1.25], second=[1.0], third=[1.1])
    assert fastest(machine.ways(), 2, margin, lambda: machine.now) == winner


def test_the_first_run_and_disturbed_ones_do_not_count():
    machine = Machine(first=[0.1, 9.0, 3.0, 9.0], second=[7.0, 5.0, 2.0, 5.0])
    assert fastest(machine.ways(), 3, 1.0, lambda: machine.now) == "second"
    assert machine.order == ["first", "second"] * 4, "in turn"
