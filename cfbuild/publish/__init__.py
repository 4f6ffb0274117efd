"""A build as a dataset on a Hugging Face Hub: its files (`stage`), card (`card`) and commit (`hub`); and exports."""
