"""A build as a dataset on a Hugging Face Hub: its files (`stage`), its card (`card`) and the commit (`hub`)."""
