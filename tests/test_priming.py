"""Initial weights: heads look at their offsets, near numbers are near, and everything is a function of the seed."""

from __future__ import annotations

import pytest
import torch

from perception.tiny import chat
from perception.tiny.priming import OFFSETS, prime_numbers
from tests.backends import TEXTS


@pytest.fixture(scope="module")
def words() -> object:
    return chat.make_tokenizer([*TEXTS, "a bounding box"], 400)


def test_the_first_heads_look_at_their_offsets(words: object) -> None:
    model = chat.make_model(words, width=96, vision_depth=2, heads=3)
    tower, side = model.model.vision_model, chat.SIDE // chat.PATCH
    layer = tower.encoder.layers[0]
    places = tower.embeddings.position_embedding.weight
    query, key = layer.self_attn.q_proj(layer.layer_norm1(places)), layer.self_attn.k_proj(layer.layer_norm1(places))
    heads = [x.unflatten(1, (3, -1)).transpose(0, 1) for x in (query, key)]
    most = (heads[0] @ heads[1].transpose(1, 2)).argmax(dim=2).reshape(3, side, side)
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    inner = (slice(None), slice(2, -2), slice(2, -2))  # at the edge there is nothing to look at
    for head in range(3):
        right, down = OFFSETS[head]
        wanted = (row + down) * side + column + right
        assert (most[head] == wanted)[inner[1:]].float().mean() > 0.95


def test_near_numbers_are_near(words: object) -> None:
    embedding = torch.nn.Parameter(torch.randn(200, 64) * 0.02)
    before = embedding.detach().clone()
    prime_numbers(embedding, {k: k for k in range(129)}, 128)
    lines = torch.nn.functional.normalize(embedding[:129, :32].detach(), dim=1)
    like = lines @ lines.T
    for n in (0, 5, 64, 127):
        order = like[n].argsort(descending=True)[:3].tolist()
        assert order[0] == n
        assert all(abs(m - n) <= 2 for m in order)
    assert torch.equal(embedding[129:], before[129:])
    assert 0.5 < (embedding[:129].std() / before.std()).item() < 2


def test_weights_are_a_function_of_the_seed(words: object) -> None:
    one, same, other = (chat.make_model(words, 48, 1, 1, 2, seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[k], same[k]) for k in one)
    name = "model.vision_model.encoder.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(one[name], other[name])
