"""The verbs: each composes sources, builders, filters, editors and scores over one build folder."""
