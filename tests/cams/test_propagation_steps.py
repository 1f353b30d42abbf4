"""The steps that several affinities share."""

from __future__ import annotations

import torch

from clipes.cams.propagation import background_shares, near_patches, normalise_columns, normalise_rows, propagate


def test_a_patch_gathers_by_its_row():
    matrix = torch.tensor([[0.0, 2.0], [0.0, 3.0]])
    assert propagate(torch.tensor([[5.0, 7.0]]), matrix).tolist() == [[14.0, 21.0]]
    assert propagate(torch.tensor([[5.0, 7.0]]), matrix, 2).tolist() == [[42.0, 63.0]]


def test_rows_and_columns_without_a_sum_stay():
    matrix = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    assert normalise_rows(matrix).tolist() == [[0.25, 0.75], [0.0, 0.0]]
    assert normalise_rows(matrix, 4.0).tolist() == [[0.125, 0.375], [0.0, 0.0]]
    assert normalise_columns(matrix, 1.0).tolist() == [[0.5, 0.75], [0.0, 0.0]]


def test_near_is_a_square():
    near = near_patches((3, 4), 1)
    assert near[5].reshape(3, 4).int().tolist() == [[1, 1, 1, 0]] * 3
    assert near[3].reshape(3, 4).int().tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]


def test_shares_with_a_constant_background():
    maps = torch.tensor([[[0.0, 0.35]], [[1.0, 0.35]]], dtype=torch.float64)
    shares = background_shares(maps, 0.35)
    torch.testing.assert_close(shares[:, 0, 1], torch.full((3,), 1 / 3, dtype=torch.float64))
    want = torch.tensor([0.35, 0.0, 1.0], dtype=torch.float64).exp()
    torch.testing.assert_close(shares[:, 0, 0], want / want.sum())
