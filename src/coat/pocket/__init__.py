"""Pocket: a small audio language model that is put together on the user's machine from parts in package registries."""
