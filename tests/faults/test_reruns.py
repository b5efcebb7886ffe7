"""A state is not tried if its run must end as one that was tried."""

from campaign.reruns import Reruns

STATE = {"folder": None, "read": b"one", "removed": b"half"}
FOUND = [("wrong", "something")]
UNREAD = frozenset({"removed"})


def known(unread: frozenset[str] = UNREAD) -> Reruns:
    found = Reruns()
    found.add(STATE, unread, FOUND)
    return found


def test_the_same_state():
    assert known(frozenset()).find(dict(STATE)) == FOUND
    assert Reruns().find(STATE) is None


def test_what_was_removed_unread_may_hold_anything():
    assert known().find(STATE | {"removed": b""}) == FOUND
    assert known().find(STATE | {"removed": b"half of it"}) == FOUND


def test_all_else_matters():
    for other in (
        {"read": b"two"}, {"removed": None}, {"folder": b""}, {"more": b""}, {"folder/more": b""},
    ):  # fmt: skip
        assert known().find(STATE | other) is None, other
    assert known().find({"folder": None, "read": b"one"}) is None
    assert known(frozenset()).find(STATE | {"removed": b""}) is None


def test_runs_that_read_different_files():
    """The one that a state must repeat is found among those from the same names."""
    found = known(frozenset())
    found.add(STATE | {"read": b"damaged"}, frozenset({"removed"}), [])
    assert found.find(STATE) == FOUND
    assert found.find(STATE | {"removed": b""}) is None
    assert found.find(STATE | {"read": b"damaged", "removed": b""}) == []
