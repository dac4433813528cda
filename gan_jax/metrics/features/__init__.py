"""Feature extractors, one a file: from stored examples to features and class logits.

A new file offers `load() -> Extractor` (`load(weights=None)` if it has weights, and any
settings as keywords), and is then found by its name; your own is `file.py:load`. Its
`apply` is pure, and its `version` changes whenever its numbers would. An extractor that
has a reference implementation equals it on the same weights, and tests/parity shows it.
`extractor.py` alone is no extractor: it holds the contract.
"""
