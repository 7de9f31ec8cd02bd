"""The small world: a synthesised corpus, tiny backbones and stand-in experts, from a seed.

Everything here runs offline on two CPU cores. It is public: test your own backbone, expert or
recipe on it before you spend a GPU.
"""
