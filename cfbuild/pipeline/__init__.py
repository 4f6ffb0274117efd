"""The verbs: each composes sources, builders, filters, editors and scores over a build folder."""
