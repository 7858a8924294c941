"""Walks through a reply's grammar that hold for every grammar, with their assertions."""

from collections import defaultdict, deque

from text2grad.token_table import encode_target


def walk_states(grammar, bytes_in):
    """Every state reachable by `bytes_in(state)`; each has a way out of exactly the stated length.

    Returns:
        The states, and those among them that end a reply.
    """
    came_from, ends, queue = defaultdict(set), [], deque([grammar.initial])
    seen = {grammar.initial}
    while queue:
        state = queue.popleft()
        if grammar.closed(state):
            ends.append(state)
        for byte in bytes_in(state):
            after = grammar.advance(state, bytes([byte]))
            if after is None:
                continue
            assert byte in grammar.next_bytes(state)
            came_from[after].add(state)
            if after not in seen:
                seen.add(after)
                queue.append(after)
    # An independent distance: breadth first, backwards from the end.
    distance, queue = dict.fromkeys(ends, 0), deque(ends)
    while queue:
        state = queue.popleft()
        for before in came_from[state] - distance.keys():
            distance[before] = distance[state] + 1
            queue.append(before)
    assert distance.keys() == seen
    for state in seen:
        assert grammar.shortest_exit(state) == distance[state] <= grammar.longest_exit
        assert grammar.closed(grammar.advance(state, grammar.exit_path(state)))
    return seen, ends


def walk_budgets(grammar, table, letters, extra):
    """Every state and budget that tokens of `letters` reach; none is a dead end.

    Returns:
        The pairs, from the smallest budget and `extra - 1` larger ones.
    """
    tokens = [i for i, piece in enumerate(table.pieces) if piece and set(piece) <= letters]
    smallest = grammar.shortest_exit(grammar.initial, table.cost)
    walks = {(grammar.initial, smallest + more) for more in range(extra)}
    seen = set(walks)
    while walks:
        state, left = walks.pop()
        if grammar.closed(state):
            continue
        if literal := grammar.forced(state):
            after = [(grammar.advance(state, literal), left - table.cost(literal))]
        else:
            after = [(table.admit(grammar, state, token, left - 1), left - 1) for token in tokens]
        after = {(state, left) for state, left in after if state is not None}
        assert after, (state, left)
        assert all(left >= 0 for _, left in after)
        walks |= after - seen
        seen |= after
    return seen


def check_split(target, table, grammar):
    """A target's tokens are those that decoding would force or admit."""
    ids = encode_target(target, table, grammar)
    assert b"".join(table.pieces[i] for i in ids) == target.encode()
    state, rest = grammar.initial, ids
    while rest:
        literal = grammar.forced(state)
        split = table.encode_forced(literal) if literal else rest[:1]
        assert rest[: len(split)] == list(split)
        rest = rest[len(split) :]
        # The way out is counted in single bytes, so a few more tokens than needed.
        state = (
            grammar.advance(state, literal)
            if literal
            else table.admit(grammar, state, split[0], len(rest) + 10)
        )
        assert state is not None
    assert grammar.closed(state)
