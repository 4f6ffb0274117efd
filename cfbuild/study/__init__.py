"""Human evaluation of generated texts: who rates what, the codes of the answers, and the votes."""
