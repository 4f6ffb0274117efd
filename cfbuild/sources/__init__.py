"""The sources of facts: SPARQL endpoints, ParaRel, the bundled snapshot."""
