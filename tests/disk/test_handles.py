"""The cache of open things: bounded, and exclusive about opening and closing."""

from __future__ import annotations

import threading

import pytest

from ftx.disk.handles import HandleCache


class Things:
    """What is open."""

    def __init__(self) -> None:
        self.open: list[int] = []
        self.opened = 0
        self.lock = threading.Lock()
        self.errors: list[str] = []

    def begin(self, key: int) -> int:
        """Open; 13 cannot be."""
        if key == 13:
            raise OSError("unlucky")
        with self.lock:
            if key in self.open:
                self.errors.append(f"{key} opened twice")
            self.open.append(key)
            self.opened += 1
        return key

    def end(self, key: int) -> None:
        """Close."""
        with self.lock:
            self.open.remove(key)


def test_least_recently_used_goes_first() -> None:
    """Only what nobody uses is closed, oldest first."""
    things = Things()
    cache = HandleCache(2, things.begin, things.end)
    with cache.use(1), cache.use(2), cache.use(3):
        assert things.open == [1, 2, 3]  # all in use: the limit waits
    assert things.open == [1, 2]
    with cache.use(1):
        pass
    with cache.use(4):
        pass
    assert things.open == [1, 4]
    assert cache.drop(1) == 1
    assert cache.drop(1) is None
    cache.close()
    assert things.open == [1]


def test_failure_to_open_leaves_nothing() -> None:
    """The error reaches the caller, and the next try is a new one."""
    things = Things()
    cache = HandleCache(2, things.begin, things.end)
    for _ in range(2):
        with pytest.raises(OSError, match="unlucky"):
            cache.take(13)
    cache.close()


def test_threads_share_and_nothing_is_open_twice() -> None:
    """Eight threads over a few keys: a key is never opened while it is open, and all is closed in the end."""
    things = Things()
    cache = HandleCache(2, things.begin, things.end)

    def work(seed: int) -> None:
        for step in range(400):
            with cache.use((seed * 7 + step * 3) % 6) as handle:
                if handle not in things.open:
                    things.errors.append(f"{handle} used while closed")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not things.errors
    assert len(things.open) <= 2
    cache.close()
    assert not things.open
