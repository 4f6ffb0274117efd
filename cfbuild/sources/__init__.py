"""The sources of facts: SPARQL endpoints, dumps, ParaRel, the bundled snapshot."""
