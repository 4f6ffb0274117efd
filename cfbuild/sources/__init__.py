"""Where facts come from: SPARQL endpoints, ParaRel, the bundled snapshot."""
