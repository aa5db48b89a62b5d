"""The tokenizer of the bundled model: byte-level BPE, split as Llama 3 splits.

GGUF knows this pair as tokenizer.ggml.model "gpt2" with pre "llama-bpe". The
split keeps up to three digits together, but training cuts digits apart, so no
merge holds a digit and every digit stays one token: sums are learnt by place.
"""

import sys

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from corpus import Corpus

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
         r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def pre_tokenizer(extra=()):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"), *extra,
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train(path, vocab, seed, documents):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizer([pre_tokenizers.Digits(individual_digits=True)])
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=SPECIAL, min_frequency=1, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    corpus = Corpus(seed)

    def texts():
        for _ in range(documents):
            text = "".join(piece for piece, _ in corpus.document())
            for special in SPECIAL:  # markers are tokens of their own, never merged
                text = text.replace(special, "\n")
            yield text
    tok.train_from_iterator(texts(), trainer)
    tok.pre_tokenizer = pre_tokenizer()
    tok.save(path)
    return tok


if __name__ == "__main__":
    train(sys.argv[1], 2048, 1, 40000)
