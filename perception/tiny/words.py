"""Byte-pair tokenizers of our own, trained on the suite's sentences with the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def train_bpe(texts: Iterable[str], vocabulary: int, special: Sequence[str], glue: Sequence[str] = ()) -> Any:
    """A byte-level tokenizer, which can say anything.

    Args:
        texts: sentences to learn from.
        vocabulary: largest number of tokens, glue not counted.
        special: tokens that no text can contain.
        glue: pieces of text that become one token each.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe: Any = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.add_tokens(list(glue))
    return bpe


def wrap(bpe: Any, **settings: Any) -> Any:
    """Transformers' tokenizer around one of `tokenizers`.

    Args:
        bpe: a Tokenizer, or its JSON.
        settings: of PreTrainedTokenizerFast.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(bpe) if isinstance(bpe, str) else bpe, **settings)
