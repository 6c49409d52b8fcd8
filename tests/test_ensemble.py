"""Members of an ensemble are networks of their own, and training can be left and taken up again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from assets.errors import InvalidValueError
from rewards.ensemble import MLP, Trainer, check_features

pytestmark = pytest.mark.usefixtures("one_thread")


def alone(net: MLP, member: int) -> nn.Sequential:
    """One member, built of torch's own layers."""
    parts: list[nn.Module] = []
    for layer in list(net.layers):
        weight, bias = (p.data[member] for p in layer.parameters())
        linear = nn.Linear(weight.shape[0], weight.shape[1])
        linear.weight.data, linear.bias.data = weight.T, bias[0]
        parts += [linear, nn.LeakyReLU()]
    return nn.Sequential(*parts[:-1])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(1, 3), st.integers(0, 99))
def test_a_member_is_an_ordinary_network(members: int, hidden: list[int], outputs: int, seed: int) -> None:
    net, x = MLP(members, 5, hidden, seed, outputs), torch.randn(7, 5, generator=torch.Generator().manual_seed(seed))
    net.standardise(3 * x + 1)
    scaled = (x - net.mean) / net.std
    for member, found in enumerate(net(x)):
        assert found.shape == (7, outputs)
        torch.testing.assert_close(found, alone(net, member)(scaled), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(net(x.expand(members, 7, 5)), net(x))


def test_members_learn_apart() -> None:
    net = MLP(2, 3, (4,), 0)
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    net(x)[0].sum().backward()
    for parameter in net.parameters():
        assert parameter.grad is not None
        assert parameter.grad[0].abs().sum() > 0
        assert (parameter.grad[1] == 0).all()


def test_first_weights_are_those_of_torch_in_spread() -> None:
    weight = next(iter(MLP(1, 100, (400,), 0).layers[0].parameters())).detach()
    assert weight.abs().max() <= 0.1
    assert weight.std().item() == pytest.approx(0.1 / np.sqrt(3), rel=0.02)


def test_features_are_standardised_and_constant_ones_are_left_in_their_unit() -> None:
    net = MLP(1, 3, (4,), 0)
    x = torch.tensor([[1.0, 1e6, 5.0], [3.0, 3e6, 5.0]])
    net.standardise(x)
    torch.testing.assert_close((x - net.mean) / net.std, torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0]]))
    assert net.std[2] == 1


def test_training_is_left_and_taken_up_again() -> None:
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))

    def loss(net: MLP) -> Tensor:
        return (net(x)[..., 0] - x[:, 0]).square().mean()

    whole, first, second = (Trainer(MLP(2, 3, (8,), seed), 1e-2, "cpu") for seed in (0, 0, 1))
    nets: Any = [trainer.net for trainer in (whole, first, second)]
    found = whole.descend(lambda: loss(nets[0]), 30)
    assert found > whole.descend(lambda: loss(nets[0]), 30)
    first.descend(lambda: loss(nets[1]), 30)
    second.load_state_dict(first.state_dict())
    second.descend(lambda: loss(nets[2]), 30)
    states = [trainer.state_dict() for trainer in (whole, second)]
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][key])
    fresh = Trainer(MLP(2, 3, (8,), 0), 1e-2, "cpu")
    whole.load_state_dict(fresh.state_dict())  # without moments, as before the first step
    assert whole.state_dict().keys() == fresh.state_dict().keys()
    assert np.isnan(whole.descend(lambda: loss(nets[0]), 0))


def test_another_networks_state_is_refused() -> None:
    trainer = Trainer(MLP(1, 3, (8,), 0), 1e-2, "cpu")
    with pytest.raises(InvalidValueError, match="the network's arrays are"):
        trainer.load_state_dict(Trainer(MLP(1, 3, (9,), 0), 1e-2, "cpu").state_dict())
    with pytest.raises(InvalidValueError, match="the network's arrays are"):
        trainer.load_state_dict({})


def test_features_are_checked() -> None:
    assert check_features(np.ones((2, 3), np.int64), 3).dtype == np.float32
    with pytest.raises(InvalidValueError, match=r"features must be \(P, T, F\) with F = 3, got \(2, 3\)"):
        check_features(np.ones((2, 3)), 3, axes=3)
    with pytest.raises(InvalidValueError, match="got 2 NaN or infinite numbers"):
        check_features(np.array([[np.nan, np.inf, 0]]), 3)
