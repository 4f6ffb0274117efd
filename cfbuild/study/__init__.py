"""Human evaluation of generated texts: who rates what, the codes that answers come back as, and what they say."""
