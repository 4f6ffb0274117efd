"""cfbuild: build CounterFact-style knowledge-editing data, filter it with a language model, and score editors on it."""

__version__ = "0.1.0"
