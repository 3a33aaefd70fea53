"""The pool keeps its size, lets go of what has ended, and is the same after a break."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from rawisp.isp.adaptive.adaptive_isp import AdaptiveConfig, AdaptiveIsp
from rawisp.train.loader import Loader
from rawisp.train.replay import Pool, Record, replayed

from .toy import MAP, NOTHING, photographs


def pool(capacity: int = 12, reserved: int = 4) -> Pool:
    return Pool(capacity, steps=3, reserved=reserved, seed=5)


def further(record: Record, choice: int = 0) -> Record:
    raw = torch.linspace(-1, 1, 27) + record.draw + len(record.choices)
    return record.continued(choice, raw, loss=record.draw / 7)


def turn(some: Pool) -> list[Record]:
    """A step as in training: even draws go on until they have three steps, odd ones end."""
    taken = some.front(4)
    some.turn(4, [further(r) for r in taken if r.draw % 2 == 0 and len(r.choices) < 2])
    return taken


def test_it_stays_full_and_what_has_ended_never_comes_again() -> None:
    some = pool()
    ended: set[int] = set()
    drawn = 12
    for _ in range(40):
        taken = turn(some)
        assert not ended & {r.draw for r in taken}
        gone = {r.draw for r in taken if r.draw % 2 == 1 or len(r.choices) == 2}
        ended |= gone
        drawn += len(gone)
        assert len(some.records) == 12
        assert some.drawn == drawn  # a fresh one for each that has ended
        assert len({r.draw for r in some.records}) == 12
    assert len(ended) > 60


def test_the_next_batch_is_known_before_this_one_comes_back() -> None:
    some = pool()
    for _ in range(10):
        coming = some.front(8)[4:]
        turn(some)
        assert some.front(4) == coming


def test_every_episode_moves_on_sooner_or_later() -> None:
    some = pool()
    for _ in range(60):
        turn(some)
    assert min(r.draw for r in some.records) > 40
    assert {len(r.choices) for r in some.records} == {0, 1, 2}  # steps are mixed


def test_no_more_can_come_back_than_were_taken() -> None:
    some = pool()
    with pytest.raises(ValueError, match="3 records come back, 2 were taken"):
        some.turn(2, some.front(3))


def test_a_pool_as_small_as_a_batch_works() -> None:
    some = pool(capacity=4)
    for _ in range(5):
        turn(some)
        assert len(some.records) == 4


def test_its_state_is_small_and_the_future_the_same() -> None:
    some = pool()
    for _ in range(7):
        turn(some)
    file = io.BytesIO()
    torch.save(some.state_dict(), file)
    assert len(file.getvalue()) < 12 * 3 * 27 * 4 + 8000
    file.seek(0)
    other = pool()
    other.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(20):
        for a, b in zip(some.records, other.records, strict=True):
            assert a == b
            assert all(torch.equal(p, q) for p, q in zip(a.raws, b.raws, strict=True))
        turn(some)
        turn(other)


def test_pictures_are_made_again_bit_for_bit_and_as_the_steps_made_them() -> None:
    torch.manual_seed(0)
    isp = AdaptiveIsp(AdaptiveConfig(steps=4))
    start = torch.rand(3, 21, 30)
    record, y = Record(0), start[None]
    for choice in (2, 0, 4):
        raw = torch.randn(27)
        y = isp.step(y, torch.tensor([choice]), raw[None])
        record = record.continued(choice, raw, loss=0.5)
    picture, state = replayed(isp, start, record)
    torch.testing.assert_close(picture, y[0].detach(), atol=1e-6, rtol=0)
    assert state.tolist() == [0, 0, 3, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0]
    assert torch.equal(picture, replayed(isp, start, record)[0])
    assert not picture.requires_grad


def test_the_stream_of_photographs_has_all_of_them_in_each_turn(tmp_path: Path) -> None:
    loader = Loader(photographs(tmp_path, [0.1] * 7), MAP, NOTHING, 3, seed=1)
    places = [loader.drawn(n) for n in range(21)]
    for epoch in range(3):
        part = places[7 * epoch : 7 * epoch + 7]
        assert {e for e, _ in part} == {epoch}
        assert sorted(index for _, index in part) == list(range(7))
    assert places[:7] != [(0, index) for _, index in places[7:14]]
