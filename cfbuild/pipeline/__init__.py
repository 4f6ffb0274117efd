"""The verbs: each composes sources, builders, filters, editors and scores over a build folder.

All that take long go on, if they are interrupted, after their last finished chunk and to the same bytes; one that is
finished with the same settings is not repeated, and work made with others raises BuildStateError.
"""
